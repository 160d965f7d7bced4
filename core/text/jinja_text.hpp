#pragma once

#include "core/text/jinja_value.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace moira {

/// Text forms of values and operations on text, as Python has them: positions count characters, not bytes.

/// What `{{ value }}` writes.
std::string to_text(const jinja_value& value, jinja_budget& budget);

/// Like json.dumps with ensure_ascii off; `indent` counts spaces, none writes one line.
std::string to_json_text(const jinja_value& value, std::optional<std::int64_t> indent, jinja_budget& budget);

std::size_t count_characters(std::string_view text);

/// Bytes from character `begin` up to `end`.
std::string_view characters(std::string_view text, std::size_t begin, std::size_t end);

enum class strip_side { both, left, right };

/// Removes the characters of `set`, or white space without one.
std::string_view strip(std::string_view text, strip_side side, std::optional<std::string_view> set = std::nullopt);

/// Splits at `separator`, or at runs of white space without one; at most `splits_max` times when it is not negative.
std::vector<std::string_view> split_text(std::string_view text, std::optional<std::string_view> separator,
                                         std::int64_t splits_max);

/// Letters of ASCII only: case rules of other scripts are not applied.
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);

} // namespace moira
