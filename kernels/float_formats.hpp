// The stored number formats, one value at a time. Widening is exact; narrowing rounds to nearest, ties to even.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace moira {

inline float float_of_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t bits_of_float(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float bf16_to_float(uint16_t bits) {
    return float_of_bits(uint32_t{bits} << 16);
}

inline uint16_t float_to_bf16(float value) {
    const uint32_t bits = bits_of_float(value);
    if (std::isnan(value))
        return uint16_t(bits >> 16 | 0x40u);
    return uint16_t((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

// IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 mantissa bits.
inline float f16_to_float(uint16_t bits) {
    const uint32_t sign = uint32_t(bits & 0x8000u) << 16;
    const uint32_t exponent = bits >> 10 & 0x1Fu;
    const uint32_t mantissa = bits & 0x3FFu;
    if (exponent == 0x1F)
        return float_of_bits(sign | 0x7F800000u | mantissa << 13);
    if (exponent == 0) // subnormal: mantissa * 2^-24
        return float_of_bits(sign | bits_of_float(float(mantissa) * 0x1p-24f));
    return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

// Only for values that came from f16_to_float: it cuts instead of rounding.
inline uint16_t exact_float_to_f16(float value) {
    const uint32_t bits = bits_of_float(value);
    const auto sign = uint16_t(bits >> 16 & 0x8000u);
    const uint32_t exponent = bits >> 23 & 0xFFu;
    if (exponent == 0xFF)
        return uint16_t(sign | 0x7C00u | (bits >> 13 & 0x3FFu));
    if (exponent < 113) // subnormal or zero
        return uint16_t(sign | uint16_t(std::fabs(value) * 0x1p24f));
    return uint16_t(sign | (exponent - 112) << 10 | (bits >> 13 & 0x3FFu));
}

// OCP E4M3 (no infinities; all ones is NaN): 1 sign, 4 exponent (bias 7), 3 mantissa bits.
inline float f8_e4m3_to_float(uint8_t bits) {
    if ((bits & 0x7Fu) == 0x7Fu)
        return std::numeric_limits<float>::quiet_NaN();
    // The same bits read as float32 have an exponent bias of 127: 2^120 makes up for the difference, subnormals too.
    return float_of_bits(uint32_t(bits & 0x80u) << 24 | uint32_t(bits & 0x7Fu) << 20) * 0x1p120f;
}

} // namespace moira
