// How a weight matrix [n, k] lies in tiles of 64 output columns, for both vector units:
//   BF16:      [tile][ceil(k / 2)][64][2]  one 32-bit pair per column; k odd: the last second is 0
//   F32, F16:  [tile][k][64]               F16 widened to float32
//   F8_E4M3:   [tile][pairs][64][2], the 128 bytes of a pair row in the order of f8_pair_offset; K in pairs within each
//              block of scales, so that no pair crosses blocks; then the scales [ceil(n / block_n)][ceil(k / block_k)]
//              as in the checkpoint
// Columns past n are 0.
#pragma once

#include "kernels/packed_layout.hpp"

namespace moira {

// Pairs of K before element k of a block-scaled matrix. block_k odd: the last pair of a block has an empty second.
constexpr uint64_t f8_pairs_before(uint32_t k, uint32_t block_k) {
    const uint64_t block_pairs = (uint64_t{block_k} + 1) / 2;
    return k / block_k * block_pairs + k % block_k / 2;
}

constexpr uint64_t f8_pair_count(uint32_t k, uint32_t block_k) {
    return k / block_k * ((uint64_t{block_k} + 1) / 2) + (uint64_t{k % block_k} + 1) / 2;
}

// Place of a pair's first byte within the 128 bytes of its pair row. AVX-512 looks up 64 bytes at a time and
// interleaves the two halves of each result with unpack instructions, which work within 16 bytes: the low 8 bytes of
// each 16 become one vector of 16 columns, the high 8 bytes the next.
constexpr uint32_t f8_pair_offset(uint32_t column) {
    return column / 32 * 64 + column % 16 / 4 * 16 + column % 32 / 16 * 8 + column % 4 * 2;
}

constexpr uint64_t tile_bytes(const moira_quantization& quantization, uint32_t k) {
    switch (quantization.weight_type) {
    case MOIRA_TYPE_BF16:
        return (uint64_t{k} + 1) / 2 * tile_columns * 4;
    case MOIRA_TYPE_F8_E4M3:
        return f8_pair_count(k, quantization.block_k) * tile_columns * 2;
    default:
        return uint64_t{k} * tile_columns * 4;
    }
}

constexpr uint64_t tile_count(uint32_t n) {
    return (uint64_t{n} + tile_columns - 1) / tile_columns;
}

} // namespace moira
