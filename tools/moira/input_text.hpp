#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// As much as a tokenizer takes; larger files are refused before they are read whole.
inline constexpr std::size_t input_bytes_max = std::size_t{16} << 20;

/// The bytes of a file, or of standard input for "-". Errors: not_found, io_error, prompt_too_long.
result<std::string> read_input_text(const std::string& file);

/// Ids separated by spaces or commas, e.g. "1 2 3". Errors: invalid_argument (names the first thing that is no id).
result<std::vector<token_id>> parse_token_ids(std::string_view text);

} // namespace moira
