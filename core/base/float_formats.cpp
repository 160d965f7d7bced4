#include "core/base/float_formats.hpp"

#include "plugins/moira_plugin.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace moira {

float bf16_to_f32(std::uint16_t bits) noexcept { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

float f16_to_f32(std::uint16_t bits) noexcept {
    const int exponent = (bits >> 10) & 31;
    const int mantissa = bits & 1023;
    const float sign = (bits & 0x8000) ? -1.0F : 1.0F;
    if (exponent == 31)
        return mantissa ? std::bit_cast<float>(0x7fc00000U) : sign * INFINITY;
    if (exponent == 0)
        return sign * std::ldexp(static_cast<float>(mantissa), -24);
    return sign * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

bool widen_to_f32(std::uint32_t type, std::span<const std::byte> bytes, std::span<float> values) noexcept {
    const std::size_t width = type == MOIRA_TYPE_F32 ? 4 : 2;
    if ((type != MOIRA_TYPE_F32 && type != MOIRA_TYPE_BF16 && type != MOIRA_TYPE_F16) ||
        bytes.size() != values.size() * width)
        return false;
    if (type == MOIRA_TYPE_F32) {
        std::memcpy(values.data(), bytes.data(), bytes.size());
        return true;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, bytes.data() + i * 2, 2);
        values[i] = type == MOIRA_TYPE_BF16 ? bf16_to_f32(bits) : f16_to_f32(bits);
    }
    return true;
}

}  // namespace moira
