#pragma once

#include "core/base/error.hpp"
#include "plugins/plugin_host.hpp"

#include <filesystem>
#include <string>
#include <string_view>

namespace moira {

/// A shared object after probing. `open` is null when it is refused; found.reason then says why.
struct plugin_file {
    found_plugin found;
    moira_plugin_open_function open = nullptr;
};

/// Loads `file` (for good: it is never unloaded) and asks its probe. Never fails: what is wrong with the file stands in
/// found.reason.
plugin_file probe_plugin(const std::filesystem::path& file, const moira_device_facts& facts);

/// Opens a probed plugin and checks its table. Errors: plugin_incompatible, with the reason.
result<const moira_plugin_api*> open_plugin(const plugin_file& plugin);

/// The text in a fixed field of the border, with control characters replaced. Errors: plugin_incompatible, when it is
/// not terminated.
result<std::string> read_text(const char* field, std::size_t bytes, std::string_view what);

/// What the plugin says about the last failure on this thread.
std::string read_last_error(const moira_plugin_api& api);

/// "launch failed (4)".
std::string status_text(moira_status status);

} // namespace moira
