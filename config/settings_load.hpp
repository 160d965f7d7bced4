#pragma once

#include "config/settings.hpp"
#include "core/base/error.hpp"

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace moira {

/// The largest settings file that is read; a file with every key and a paragraph on each is below 32 KiB.
inline constexpr std::size_t settings_file_bytes_max = std::size_t{1} << 20;

/// Settings with the place that each value came from.
struct loaded_settings {
    settings values;
    /// Only keys that were set: "moira.toml:12" or "--set".
    std::map<std::string, std::string, std::less<>> origins;

    /// "default" for keys that nobody set.
    std::string_view origin(std::string_view key) const;
};

/// Defaults, then the file (an empty path: none), then every "section.key=value" in order. Errors: invalid_config
/// (unknown key, wrong type, out of range: with file:line:column, key, found, expected), unsupported (a value that this
/// version cannot serve), not_found, io_error.
result<loaded_settings> load_settings(const std::filesystem::path& file, std::span<const std::string> assignments);

/// The same with the file's text in memory; `name` stands in error messages and origins.
result<loaded_settings> parse_settings(std::string_view toml, std::string_view name,
                                       std::span<const std::string> assignments = {});

} // namespace moira
