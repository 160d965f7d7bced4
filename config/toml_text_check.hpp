#pragma once

#include "core/base/error.hpp"

#include <cstddef>
#include <string_view>

namespace moira {

/// toml++ bounds nested values but not dotted keys ("a.a.a..."), whose tables are destroyed recursively. With its limit
/// on nested values (16 here) this keeps the depth below 4,096 tables, far from the end of a stack.
inline constexpr std::size_t toml_dots_per_line_max = 256;

/// Refuses what toml++ 3.3 must not see, each found by fuzzing: control characters (a zero byte after "[" runs into an
/// assertion), characters beyond ASCII outside strings and comments (its table of white space is undefined for U+FB26
/// to U+FEFE; TOML allows none of them there anyway), and too many dots. Errors: invalid_config with `name` and line.
result<void> check_toml_text(std::string_view text, std::string_view name);

} // namespace moira
