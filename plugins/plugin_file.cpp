#include "plugins/plugin_file.hpp"

#include "plugins/shared_object_check.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <dlfcn.h>

namespace moira {
namespace {

/// Majors that are looked for, only to say which one a refused plugin was built for.
constexpr int majors_looked_for = 16;

std::string version_text(std::uint32_t major, std::uint32_t minor) {
    return std::to_string(major) + "." + std::to_string(minor);
}

/// Version 0 may change in any release, so both numbers must agree. From version 1 on, structs only grow at their end
/// within a major, and a plugin that is newer than the host stays readable.
std::string check_version(std::uint32_t major, std::uint32_t minor) {
    if (major == MOIRA_ABI_MAJOR && minor == MOIRA_ABI_MINOR)
        return {};
    return "plugin_incompatible: it speaks plugin interface " + version_text(major, minor) + ", this program speaks " +
           version_text(MOIRA_ABI_MAJOR, MOIRA_ABI_MINOR) + "; build it again for this version";
}

std::string explain_missing_symbol(void* library) {
    for (int major = 0; major < majors_looked_for; ++major) {
        const std::string symbol = "moira_plugin_probe_v" + std::to_string(major);
        if (dlsym(library, symbol.c_str()) != nullptr && symbol != MOIRA_PLUGIN_PROBE_SYMBOL)
            return "plugin_incompatible: it was built for plugin interface " + std::to_string(major) +
                   ", this program speaks " + std::to_string(MOIRA_ABI_MAJOR);
    }
    return "not a plugin: it does not export " MOIRA_PLUGIN_PROBE_SYMBOL " and " MOIRA_PLUGIN_OPEN_SYMBOL;
}

/// Names go into settings, reports and metrics: lower case, digits and '_'.
bool is_name(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
}

result<void> read_probe(const moira_probe& probe, found_plugin& found) {
    if (std::string wrong = check_version(probe.abi_major, probe.abi_minor); !wrong.empty())
        return fail(errc::plugin_incompatible, std::move(wrong));
    const auto name = read_text(probe.name, sizeof probe.name, "name");
    const auto device_class = read_text(probe.device_class, sizeof probe.device_class, "device_class");
    const auto reason = read_text(probe.reason, sizeof probe.reason, "reason");
    for (const auto* text : {&name, &device_class, &reason}) {
        if (!*text)
            return tl::unexpected<error>(text->error());
    }
    if (!is_name(*name) || !is_name(*device_class))
        return fail(errc::plugin_incompatible,
                    "plugin_incompatible: its name and device_class must be of a-z, 0-9 and _ (\"" + *name + "\", \"" +
                        *device_class + "\")");
    found.name = *name;
    found.device_class = *device_class;
    found.reason = *reason;
    found.score = probe.score;
    return {};
}

/// A null entry would be found by the first launch that needs it; find it now.
bool has_null_function(const moira_plugin_api& api) {
    constexpr std::size_t begin = offsetof(moira_plugin_api, last_error);
    constexpr std::size_t count = (sizeof(moira_plugin_api) - begin) / sizeof(void*);
    static_assert(begin + count * sizeof(void*) == sizeof(moira_plugin_api));
    std::array<void*, count> functions{};
    std::memcpy(functions.data(), reinterpret_cast<const char*>(&api) + begin, count * sizeof(void*));
    return std::find(functions.begin(), functions.end(), nullptr) != functions.end();
}

} // namespace

result<std::string> read_text(const char* field, std::size_t bytes, std::string_view what) {
    const void* end = std::memchr(field, 0, bytes);
    if (!end)
        return fail(errc::plugin_incompatible, "plugin_incompatible: its " + std::string(what) + " has no end");
    std::string text(field, static_cast<const char*>(end));
    std::replace_if(
        text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
    return text;
}

std::string read_last_error(const moira_plugin_api& api) {
    char text[MOIRA_TEXT_BYTES] = {};
    api.last_error(text, sizeof text);
    return read_text(text, sizeof text, "last error").value_or("its last error has no end");
}

std::string status_text(moira_status status) {
    static constexpr const char* names[] = {
        "ok", "unsupported", "invalid argument", "out of memory", "launch failed", "step error", "device lost"};
    const bool known = status >= 0 && status < static_cast<moira_status>(std::size(names));
    return std::string(known ? names[status] : "unknown status") + " (" + std::to_string(status) + ")";
}

plugin_file probe_plugin(const std::filesystem::path& file, const moira_device_facts& facts) {
    plugin_file plugin;
    plugin.found.file = file;
    plugin.found.name = file.stem().string();
    if (plugin.found.reason = check_shared_object(file); !plugin.found.reason.empty())
        return plugin;
    void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char* why = dlerror();
        plugin.found.reason = std::string("cannot be loaded: ") + (why ? why : "no reason given");
        return plugin;
    }
    const auto probe_function =
        reinterpret_cast<moira_plugin_probe_function>(dlsym(library, MOIRA_PLUGIN_PROBE_SYMBOL));
    const auto open_function = reinterpret_cast<moira_plugin_open_function>(dlsym(library, MOIRA_PLUGIN_OPEN_SYMBOL));
    if (!probe_function || !open_function) {
        plugin.found.reason = explain_missing_symbol(library);
        return plugin;
    }
    moira_probe probe{};
    probe.struct_size = sizeof probe;
    if (const moira_status status = probe_function(&facts, &probe); status != MOIRA_OK) {
        plugin.found.reason = "its probe failed: " + status_text(status);
        return plugin;
    }
    if (const auto read = read_probe(probe, plugin.found); !read) {
        plugin.found.reason = read.error().message;
        return plugin;
    }
    plugin.open = open_function;
    return plugin;
}

result<const moira_plugin_api*> open_plugin(const plugin_file& plugin) {
    const moira_plugin_api* api = nullptr;
    if (const moira_status status = plugin.open(&api); status != MOIRA_OK || !api)
        return fail(errc::plugin_incompatible, "it did not open: " + status_text(status));
    if (std::string wrong = check_version(api->abi_major, api->abi_minor); !wrong.empty())
        return fail(errc::plugin_incompatible, std::move(wrong));
    if (api->struct_size < sizeof(moira_plugin_api))
        return fail(errc::plugin_incompatible, "plugin_incompatible: its table has " +
                                                   std::to_string(api->struct_size) + " bytes, needed are " +
                                                   std::to_string(sizeof(moira_plugin_api)));
    if (has_null_function(*api))
        return fail(errc::plugin_incompatible, "plugin_incompatible: its table lacks a function");
    return api;
}

} // namespace moira
