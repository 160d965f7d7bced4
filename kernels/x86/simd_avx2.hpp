// AVX2, FMA: 8 lanes of float32. Same functions as simd_avx512.hpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace moira {

using simd_float = __m256;

inline constexpr uint32_t simd_lanes = 8;
// Rows of one register block: 2 rows x 4 vectors of sums, 2 of weights and 4 of activations (a BF16 pair per row) of 16
// registers. A third row spills.
inline constexpr uint32_t simd_block_rows = 2;
inline constexpr bool simd_has_bf16_dot = false;

inline simd_float simd_zero() {
    return _mm256_setzero_ps();
}
inline simd_float simd_set(float value) {
    return _mm256_set1_ps(value);
}
inline simd_float simd_load(const float* address) {
    return _mm256_loadu_ps(address);
}
inline void simd_store(float* address, simd_float value) {
    _mm256_storeu_ps(address, value);
}

inline __m256i simd_first_lanes(uint32_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
// The first `count` lanes (fewer than simd_lanes); the others are 0, and memory behind them is not touched.
inline simd_float simd_load_part(const float* address, uint32_t count) {
    return _mm256_maskload_ps(address, simd_first_lanes(count));
}
inline void simd_store_part(float* address, simd_float value, uint32_t count) {
    _mm256_maskstore_ps(address, simd_first_lanes(count), value);
}

inline simd_float simd_add(simd_float a, simd_float b) {
    return _mm256_add_ps(a, b);
}
inline simd_float simd_subtract(simd_float a, simd_float b) {
    return _mm256_sub_ps(a, b);
}
inline simd_float simd_multiply(simd_float a, simd_float b) {
    return _mm256_mul_ps(a, b);
}
inline simd_float simd_divide(simd_float a, simd_float b) {
    return _mm256_div_ps(a, b);
}
inline simd_float simd_multiply_add(simd_float a, simd_float b, simd_float c) {
    return _mm256_fmadd_ps(a, b, c);
}
// NaN in b comes through.
inline simd_float simd_maximum(simd_float a, simd_float b) {
    return _mm256_max_ps(a, b);
}
inline simd_float simd_minimum(simd_float a, simd_float b) {
    return _mm256_min_ps(a, b);
}
inline float simd_sum(simd_float value) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
// The sums of values[0 .. 3], to out[0 .. 3].
inline void simd_sum_four(const simd_float* values, float* out) {
    __m128 parts[4];
    for (int i = 0; i < 4; ++i)
        parts[i] = _mm_add_ps(_mm256_castps256_ps128(values[i]), _mm256_extractf128_ps(values[i], 1));
    _mm_storeu_ps(out, _mm_hadd_ps(_mm_hadd_ps(parts[0], parts[1]), _mm_hadd_ps(parts[2], parts[3])));
}
inline float simd_largest(simd_float value) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// value where x >= limit, 0 elsewhere (NaN keeps value).
inline simd_float simd_zero_below(simd_float value, simd_float x, simd_float limit) {
    return _mm256_and_ps(value, _mm256_cmp_ps(x, limit, _CMP_NLT_UQ));
}
inline simd_float simd_round(simd_float value) {
    return _mm256_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// value * 2^exponent, for an integral exponent of -126 to 127.
inline simd_float simd_scale(simd_float value, simd_float exponent) {
    const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(value, _mm256_castsi256_ps(bits));
}

// 8 BF16 pairs: the first or the second of each, widened.
inline simd_float simd_bf16_first(const void* pairs) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(pairs)), 16));
}
inline simd_float simd_bf16_second(const void* pairs) {
    return _mm256_castsi256_ps(
        _mm256_and_si256(_mm256_loadu_si256(static_cast<const __m256i*>(pairs)), _mm256_set1_epi32(int(0xFFFF0000u))));
}
// Back to pairs, for values that BF16 holds exactly.
inline void simd_bf16_store_pairs(void* pairs, simd_float first, simd_float second) {
    const __m256i low = _mm256_srli_epi32(_mm256_castps_si256(first), 16);
    const __m256i high = _mm256_and_si256(_mm256_castps_si256(second), _mm256_set1_epi32(int(0xFFFF0000u)));
    _mm256_storeu_si256(static_cast<__m256i*>(pairs), _mm256_or_si256(low, high));
}

// Vector v (8 columns) of a pair row of E4M3, in the order of f8_pair_offset: the first and the second of each pair,
// widened, times 1 / simd_f8_factor, exactly. The bits of a byte, moved to the fields of an F16, are that number in F16
// (subnormals too) but for the exponent's bias, 15 instead of 7.
inline constexpr float simd_f8_factor = 256.0f;
inline void simd_f8_widen(const uint8_t* pair_row, uint32_t v, simd_float& first, simd_float& second) {
    // Columns 16 a + 8 b + 0 .. 7 are pairs in two runs of 8 bytes, 16 apart.
    const uint8_t* run = pair_row + v / 4 * 64 + v / 2 % 2 * 8 + v % 2 * 32;
    const __m128i pairs = _mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(run)),
                                             _mm_loadl_epi64(reinterpret_cast<const __m128i*>(run + 16)));
    const __m128i apart = _mm_shuffle_epi8(pairs, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    const __m256i wide = _mm256_cvtepu8_epi16(apart);
    const __m256i magnitude = _mm256_and_si256(wide, _mm256_set1_epi16(0x7F));
    const __m256i nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7F)); // all ones is NaN in both
    const __m256i sign = _mm256_slli_epi16(_mm256_srli_epi16(wide, 7), 15);
    const __m256i half = _mm256_or_si256(_mm256_or_si256(sign, _mm256_slli_epi16(magnitude, 7)), nan);
    first = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
    second = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
}

} // namespace moira
