#pragma once

#include "core/base/error.hpp"

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

namespace moira {

/// Nesting that no configuration file needs; hostile text can nest as deep as it is long.
inline constexpr std::size_t config_json_depth_max = 32;

/// Parses text that must be one JSON object. `name` and `code` are for the error.
result<nlohmann::json> parse_json_object(std::string_view text, std::string_view name, errc code);

} // namespace moira
