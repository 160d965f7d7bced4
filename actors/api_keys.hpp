#pragma once

#include "core/base/error.hpp"

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

inline constexpr std::size_t api_key_bytes_max = 1'024; ///< longer ones are another kind of file
inline constexpr std::size_t api_keys_max = 1'000;      ///< every guess is compared with all of them
inline constexpr std::size_t api_key_file_bytes_max = std::size_t{1} << 20;

/// Reads one key a line; blank lines and lines that begin with `#` are skipped, white space around a key is cut.
/// Errors: io_error, invalid_config (too large, too many, no key at all: an empty list would let everybody in).
result<std::vector<std::string>> load_api_keys(const std::filesystem::path& file);

/// Whether `guess` is one of the keys. The time it takes tells nothing about where two texts differ.
bool knows_key(std::span<const std::string> keys, std::string_view guess) noexcept;

} // namespace moira
