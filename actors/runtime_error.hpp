#pragma once

#include "core/base/error.hpp"

#include <caf/all.hpp>

namespace moira {

/// Errors of the runtime as CAF carries them; error_code and error_message read them again.
inline constexpr auto runtime_error_category = caf::atom("moira");
inline caf::error to_caf_error(const error& why) {
    return {static_cast<std::uint8_t>(why.code), runtime_error_category, caf::make_message(why.message)};
}

} // namespace moira
