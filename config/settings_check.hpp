#pragma once

#include "config/settings_load.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace moira {

/// HOST:PORT or [HOST]:PORT, split. Errors: invalid_argument.
struct endpoint {
    std::string host;
    std::uint16_t port = 0;
};
result<endpoint> parse_endpoint(std::string_view text);

/// 127.0.0.0/8, ::1 and localhost.
bool is_loopback(std::string_view host);

/// Rules between keys, after every value was checked alone. Errors: invalid_config (names keys and origins).
result<void> check_settings(const loaded_settings& loaded);

} // namespace moira
