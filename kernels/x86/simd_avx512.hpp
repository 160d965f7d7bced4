// AVX-512 (F, BW, VL, DQ, BF16, VBMI): 16 lanes of float32. Same functions as simd_avx2.hpp.
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
    // Halves, then quarters, of two and of four vectors at a time; then neighbours within the quarters.
    __m512 halves[2];
    for (int i = 0; i < 2; ++i)
        halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(values[2 * i], values[2 * i + 1], 0x44),
                                  _mm512_shuffle_f32x4(values[2 * i], values[2 * i + 1], 0xEE));
    const __m512 quarters = _mm512_add_ps(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88),
                                          _mm512_shuffle_f32x4(halves[0], halves[1], 0xDD));
    const __m512 pairs = _mm512_add_ps(quarters, _mm512_permute_ps(quarters, 0xB1));
    const __m512 sums = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0x4E));
    const __m512i first_of_quarters = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_quarters, sums)));
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
// Back to pairs, for values that BF16 holds exactly.
inline void simd_bf16_store_pairs(void* pairs, simd_float first, simd_float second) {
    const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(first), 16);
    const __m512i high = _mm512_and_si512(_mm512_castps_si512(second), _mm512_set1_epi32(int(0xFFFF0000u)));
    _mm512_storeu_si512(pairs, _mm512_or_si512(low, high));
}

// E4M3 to BF16, exactly, 64 numbers at a time: one look-up gives a number's upper BF16 byte, one its lower one, each
// out of 128 by the number without its sign (vpermi2b ignores the top bit of an index). E4M3's subnormals are normal in
// BF16; its NaN (all ones) becomes NaN.
struct simd_f8_tables {
    __m512i upper[2];
    __m512i lower[2];
};
struct alignas(64) simd_f8_table_bytes {
    uint8_t upper[128];
    uint8_t lower[128];
};
constexpr simd_f8_table_bytes simd_f8_make_tables() {
    simd_f8_table_bytes made{};
    for (uint32_t code = 1; code < 128; ++code) {
        uint32_t exponent = (code >> 3) + 120; // biases 127 and 7
        uint32_t mantissa = code & 7;          // eighths
        if (code >> 3 == 0)                    // subnormal: shift until there is a leading one
            for (++exponent; mantissa < 8; mantissa <<= 1)
                --exponent;
        const uint32_t bits = code == 127 ? 0x7FC0 : exponent << 7 | (mantissa & 7) << 4;
        made.upper[code] = uint8_t(bits >> 8);
        made.lower[code] = uint8_t(bits & 0xFF);
    }
    return made;
}
inline constexpr simd_f8_table_bytes simd_f8_bytes = simd_f8_make_tables();
inline simd_f8_tables simd_f8_load_tables() {
    simd_f8_tables tables;
    for (int half = 0; half < 2; ++half) {
        tables.upper[half] = _mm512_load_si512(simd_f8_bytes.upper + half * 64);
        tables.lower[half] = _mm512_load_si512(simd_f8_bytes.lower + half * 64);
    }
    return tables;
}

// 64 bytes in the order of f8_pair_offset to the BF16 pairs of 2 x 16 columns.
inline void simd_f8_to_bf16(const simd_f8_tables& tables, const void* bytes, __m512i& first, __m512i& second) {
    const __m512i code = _mm512_loadu_si512(bytes);
    const __m512i lower = _mm512_permutex2var_epi8(tables.lower[0], code, tables.lower[1]);
    const __m512i magnitude = _mm512_permutex2var_epi8(tables.upper[0], code, tables.upper[1]);
    // magnitude | (code & 0x80)
    const __m512i upper = _mm512_ternarylogic_epi32(magnitude, code, _mm512_set1_epi8(char(0x80)), 0xF8);
    first = _mm512_unpacklo_epi8(lower, upper);
    second = _mm512_unpackhi_epi8(lower, upper);
}

// Vector v of a pair row of E4M3, widened: the first and the second of each pair, times 1 / simd_f8_factor.
inline constexpr float simd_f8_factor = 1.0f;
inline void simd_f8_widen(const uint8_t* pair_row, uint32_t v, simd_float& first, simd_float& second) {
    __m512i halves[2];
    simd_f8_to_bf16(simd_f8_load_tables(), pair_row + v / 2 * 64, halves[0], halves[1]);
    first = simd_bf16_first(&halves[v % 2]);
    second = simd_bf16_second(&halves[v % 2]);
}

// sum += first products + second products of 16 BF16 pairs with 16 others.
inline simd_float simd_bf16_dot(simd_float sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

// Rounds `count` (1 to 32) activations to BF16, nearest even, as 16 pairs; what is missing is 0.
inline void simd_round_to_bf16(const float* x, uint32_t count, uint32_t* pairs) {
    if (count == 32) {
        _mm512_storeu_si512(
            pairs, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x))));
        return;
    }
    const uint32_t low = count < 16 ? count : 16;
    const auto low_mask = static_cast<__mmask16>((1u << low) - 1);
    const auto high_mask = static_cast<__mmask16>((1u << (count - low)) - 1);
    const __m512 first = _mm512_maskz_loadu_ps(low_mask, x);
    const __m512 second = _mm512_maskz_loadu_ps(high_mask, x + low);
    _mm512_storeu_si512(pairs, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first)));
}

// Rounds numbers to BF16, nearest even, in their order; subnormals become 0.
inline void simd_narrow_to_bf16(const float* x, uint32_t count, uint16_t* out) {
    uint32_t i = 0;
    for (; i + 32 <= count; i += 32)
        simd_round_to_bf16(x + i, 32, reinterpret_cast<uint32_t*>(out + i));
    if (i < count) {
        alignas(64) uint32_t pairs[16];
        simd_round_to_bf16(x + i, count - i, pairs);
        _mm512_mask_storeu_epi16(out + i, (__mmask32{1} << (count - i)) - 1, _mm512_load_si512(pairs));
    }
}

} // namespace moira
