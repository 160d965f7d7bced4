// Moves rows of a checkpoint into tiles, in 16-byte vectors that every x86-64 has (SSE2). Internal to tile_packing.cpp.
#pragma once

#include "kernels/x86/tile_packing.hpp"

#include <emmintrin.h>

namespace moira {

inline __m128i load_16(const char* address) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(address));
}
inline void store_16(char* address, __m128i value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(address), value);
}

// 4 columns x 4 words of 32 bits (a BF16 pair or a float32): rows `row_bytes` apart to rows of a tile.
inline void transpose_words(const char* rows, uint64_t row_bytes, char* tile_row) {
    const __m128i a = load_16(rows);
    const __m128i b = load_16(rows + row_bytes);
    const __m128i c = load_16(rows + 2 * row_bytes);
    const __m128i d = load_16(rows + 3 * row_bytes);
    const __m128i ab_low = _mm_unpacklo_epi32(a, b); // a0 b0 a1 b1
    const __m128i ab_high = _mm_unpackhi_epi32(a, b);
    const __m128i cd_low = _mm_unpacklo_epi32(c, d);
    const __m128i cd_high = _mm_unpackhi_epi32(c, d);
    constexpr uint64_t tile_row_bytes = tile_columns * 4;
    store_16(tile_row, _mm_unpacklo_epi64(ab_low, cd_low));
    store_16(tile_row + tile_row_bytes, _mm_unpackhi_epi64(ab_low, cd_low));
    store_16(tile_row + 2 * tile_row_bytes, _mm_unpacklo_epi64(ab_high, cd_high));
    store_16(tile_row + 3 * tile_row_bytes, _mm_unpackhi_epi64(ab_high, cd_high));
}

// 4 columns x 8 pairs of bytes: out[i] holds pair 2 i of the columns, then pair 2 i + 1.
inline void transpose_pairs(const char* rows, uint64_t row_bytes, __m128i (&out)[4]) {
    const __m128i a = load_16(rows);
    const __m128i b = load_16(rows + row_bytes);
    const __m128i c = load_16(rows + 2 * row_bytes);
    const __m128i d = load_16(rows + 3 * row_bytes);
    const __m128i ab_low = _mm_unpacklo_epi16(a, b); // a0 b0 a1 b1 a2 b2 a3 b3
    const __m128i ab_high = _mm_unpackhi_epi16(a, b);
    const __m128i cd_low = _mm_unpacklo_epi16(c, d);
    const __m128i cd_high = _mm_unpackhi_epi16(c, d);
    out[0] = _mm_unpacklo_epi32(ab_low, cd_low);
    out[1] = _mm_unpackhi_epi32(ab_low, cd_low);
    out[2] = _mm_unpacklo_epi32(ab_high, cd_high);
    out[3] = _mm_unpackhi_epi32(ab_high, cd_high);
}

// Columns c .. c + 3 and c + 16 .. c + 19 of 8 pairs of E4M3: 16 bytes of a pair row in the order of f8_pair_offset.
inline void transpose_f8(const char* rows, uint64_t row_bytes, char* pair_row) {
    __m128i first[4];
    __m128i second[4];
    transpose_pairs(rows, row_bytes, first);
    transpose_pairs(rows + 16 * row_bytes, row_bytes, second);
    constexpr uint64_t pair_row_bytes = tile_columns * 2;
    for (uint32_t i = 0; i < 4; ++i) {
        store_16(pair_row + 2 * i * pair_row_bytes, _mm_unpacklo_epi64(first[i], second[i]));
        store_16(pair_row + (2 * i + 1) * pair_row_bytes, _mm_unpackhi_epi64(first[i], second[i]));
    }
}

} // namespace moira
