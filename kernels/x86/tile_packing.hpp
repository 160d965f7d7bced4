// How a weight matrix [n, k] lies in tiles of 64 output columns, for both vector units:
//   BF16:      [tile][ceil(k / 2)][64][2]  one 32-bit pair per column; k odd: the last second is 0
//   F32, F16:  [tile][k][64]               F16 widened to float32
//   F8_E4M3:   [tile][k][64], then the scales [ceil(n / block_n)][ceil(k / block_k)] as in the checkpoint
// Columns past n are 0.
#pragma once

#include "kernels/packed_layout.hpp"

namespace moira {

constexpr uint64_t tile_bytes(uint32_t weight_type, uint32_t k) {
    if (weight_type == MOIRA_TYPE_BF16)
        return (uint64_t{k} + 1) / 2 * tile_columns * 4;
    return uint64_t{k} * tile_columns * (weight_type == MOIRA_TYPE_F8_E4M3 ? 1 : 4);
}

constexpr uint64_t tile_count(uint32_t n) {
    return (uint64_t{n} + tile_columns - 1) / tile_columns;
}

} // namespace moira
