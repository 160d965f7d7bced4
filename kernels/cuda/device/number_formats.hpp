// Stored number formats on the device, one value at a time: the same bits as kernels/float_formats.hpp. Widening is
// exact, narrowing rounds to nearest, ties to even.
#pragma once

#include "kernels/cuda/device/simt.hpp"

namespace moira {

SIMT_FN float bf16_value(uint16_t bits) {
    return float_of(uint32_t{bits} << 16);
}
// The two halves of a packed pair.
SIMT_FN float bf16_low(uint32_t pair) {
    return float_of(pair << 16);
}
SIMT_FN float bf16_high(uint32_t pair) {
    return float_of(pair & 0xFFFF0000u);
}
// NaN stays NaN with the upper payload, as on the CPU.
SIMT_FN uint16_t bf16_rounded(float value) {
    const uint32_t bits = bits_of(value);
    if (value != value)
        return uint16_t(bits >> 16 | 0x40u);
    return uint16_t((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

// IEEE 754 binary16.
SIMT_FN float f16_value(uint16_t bits) {
    const uint32_t sign = uint32_t(bits & 0x8000u) << 16;
    const uint32_t exponent = bits >> 10 & 0x1Fu;
    const uint32_t mantissa = bits & 0x3FFu;
    if (exponent == 0x1Fu)
        return float_of(sign | 0x7F800000u | mantissa << 13);
    if (exponent == 0) // subnormal: mantissa * 2^-24
        return float_of(sign | bits_of(float(mantissa) * 5.9604644775390625e-8f));
    return float_of(sign | (exponent + 112u) << 23 | mantissa << 13);
}

// OCP E4M3 (no infinities; all ones is NaN): 1 sign, 4 exponent (bias 7), 3 mantissa bits. Read as float32 bits the
// exponent is 120 too small.
SIMT_FN float f8_e4m3_value(uint8_t bits) {
    if ((bits & 0x7Fu) == 0x7Fu)
        return float_of(0x7FC00000u);
    return float_of(uint32_t(bits & 0x80u) << 24 | uint32_t(bits & 0x7Fu) << 20) * float_of(247u << 23);
}

// Saturates at 448, the largest value; NaN stays NaN.
SIMT_FN uint8_t f8_e4m3_rounded(float value) {
    const uint32_t bits = bits_of(value);
    const auto sign = uint8_t(bits >> 24 & 0x80u);
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u)
        return uint8_t(sign | 0x7Fu);
    if (magnitude >= 0x43E80000u) // 464, half way to the value above 448
        return uint8_t(sign | 0x7Eu);
    if (magnitude < 0x3C800000u) { // below 2^-6: a multiple of 2^-9. Adding 2^14, whose last place is 2^-9, rounds.
        const float shifted = float_of(magnitude) + 16384.0f;
        return uint8_t(sign | (bits_of(shifted) & 0xFu));
    }
    const uint32_t rounded = magnitude + 0x7FFFFu + (magnitude >> 20 & 1u);
    return uint8_t(sign | ((rounded >> 20) - (120u << 3)));
}

// OCP E8M0: a power of two, 2^(bits - 127); 255 is NaN.
SIMT_FN float e8m0_value(uint8_t bits) {
    if (bits == 0xFFu)
        return float_of(0x7FC00000u);
    return bits == 0 ? float_of(0x00400000u) : float_of(uint32_t{bits} << 23);
}

// OCP E2M1 in the low four bits: 1 sign, 2 exponent (bias 1), 1 mantissa bit: 0, 0.5, 1, 1.5, 2, 3, 4, 6. Read as
// float32 bits the exponent is 126 too small.
SIMT_FN float f4_e2m1_value(uint32_t bits) {
    return float_of((bits & 8u) << 28 | (bits & 7u) << 22) * float_of(253u << 23);
}

// MXFP4: 32 values that share one E8M0 scale; value i lies in byte i / 2, the even one in the low half.
SIMT_FN float mxfp4_value(const uint8_t* packed, uint32_t index, uint8_t scale) {
    return f4_e2m1_value(uint32_t(packed[index / 2]) >> (index % 2 * 4)) * e8m0_value(scale);
}

} // namespace moira
