// AVX-512 (F, BW, VL, DQ, BF16): 16 lanes of float32. Same functions as simd_avx2.hpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace moira {

using simd_float = __m512;

inline constexpr uint32_t simd_lanes = 16;
// Rows of one register block: 6 rows x 4 vectors of sums, 4 vectors of weights and a few to spare of 32 registers.
inline constexpr uint32_t simd_block_rows = 6;
inline constexpr bool simd_has_bf16_dot = true;

inline simd_float simd_zero() {
    return _mm512_setzero_ps();
}
inline simd_float simd_set(float value) {
    return _mm512_set1_ps(value);
}
inline simd_float simd_load(const float* address) {
    return _mm512_loadu_ps(address);
}
inline void simd_store(float* address, simd_float value) {
    _mm512_storeu_ps(address, value);
}

// The first `count` lanes (fewer than simd_lanes); the others are 0, and memory behind them is not touched.
inline simd_float simd_load_part(const float* address, uint32_t count) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), address);
}
inline void simd_store_part(float* address, simd_float value, uint32_t count) {
    _mm512_mask_storeu_ps(address, static_cast<__mmask16>((1u << count) - 1), value);
}

inline simd_float simd_add(simd_float a, simd_float b) {
    return _mm512_add_ps(a, b);
}
inline simd_float simd_subtract(simd_float a, simd_float b) {
    return _mm512_sub_ps(a, b);
}
inline simd_float simd_multiply(simd_float a, simd_float b) {
    return _mm512_mul_ps(a, b);
}
inline simd_float simd_divide(simd_float a, simd_float b) {
    return _mm512_div_ps(a, b);
}
inline simd_float simd_multiply_add(simd_float a, simd_float b, simd_float c) {
    return _mm512_fmadd_ps(a, b, c);
}
// NaN in b comes through.
inline simd_float simd_maximum(simd_float a, simd_float b) {
    return _mm512_max_ps(a, b);
}
inline simd_float simd_minimum(simd_float a, simd_float b) {
    return _mm512_min_ps(a, b);
}
inline float simd_sum(simd_float value) {
    return _mm512_reduce_add_ps(value);
}
// The sums of values[0 .. 3], to out[0 .. 3].
inline void simd_sum_four(const simd_float* values, float* out) {
    __m128 parts[4];
    for (int i = 0; i < 4; ++i) {
        const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(values[i]), _mm512_extractf32x8_ps(values[i], 1));
        parts[i] = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    }
    _mm_storeu_ps(out, _mm_hadd_ps(_mm_hadd_ps(parts[0], parts[1]), _mm_hadd_ps(parts[2], parts[3])));
}
inline float simd_largest(simd_float value) {
    return _mm512_reduce_max_ps(value);
}

// value where x >= limit, 0 elsewhere (NaN keeps value).
inline simd_float simd_zero_below(simd_float value, simd_float x, simd_float limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), value);
}
inline simd_float simd_round(simd_float value) {
    return _mm512_roundscale_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// value * 2^exponent, for an integral exponent of -126 to 127.
inline simd_float simd_scale(simd_float value, simd_float exponent) {
    const __m512i bits = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(exponent), _mm512_set1_epi32(127)), 23);
    return _mm512_mul_ps(value, _mm512_castsi512_ps(bits));
}

// 16 BF16 pairs: the first or the second of each, widened.
inline simd_float simd_bf16_first(const void* pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(pairs), 16));
}
inline simd_float simd_bf16_second(const void* pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(pairs), _mm512_set1_epi32(int(0xFFFF0000u))));
}

// 16 E4M3 bytes times 1 / simd_f8_factor, exactly: the bits of a byte, moved to the fields of an F16, are that number
// in F16 (subnormals too) but for the exponent's bias, 15 instead of 7.
inline constexpr float simd_f8_factor = 256.0f;
inline simd_float simd_f8_e4m3(const uint8_t* bytes) {
    const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
    const __m256i magnitude = _mm256_and_si256(wide, _mm256_set1_epi16(0x7F));
    const __m256i nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7F)); // all ones is NaN in both
    const __m256i sign = _mm256_slli_epi16(_mm256_srli_epi16(wide, 7), 15);
    const __m256i half = _mm256_or_si256(_mm256_or_si256(sign, _mm256_slli_epi16(magnitude, 7)), nan);
    return _mm512_cvtph_ps(half);
}

// sum += first products + second products of 16 BF16 pairs with one pair of activations.
inline simd_float simd_bf16_dot(simd_float sum, const void* pairs, uint32_t activation_pair) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_loadu_si512(pairs)),
                            reinterpret_cast<__m512bh>(_mm512_set1_epi32(int(activation_pair))));
}

// Rounds `count` (1 to 32) activations to BF16, nearest even, as 16 pairs; what is missing is 0.
inline void simd_round_to_bf16(const float* x, uint32_t count, uint32_t* pairs) {
    const uint32_t low = count < 16 ? count : 16;
    const auto low_mask = static_cast<__mmask16>((1u << low) - 1);
    const auto high_mask = static_cast<__mmask16>((1u << (count - low)) - 1);
    const __m512 first = _mm512_maskz_loadu_ps(low_mask, x);
    const __m512 second = _mm512_maskz_loadu_ps(high_mask, x + low);
    _mm512_storeu_si512(pairs, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first)));
}

} // namespace moira
