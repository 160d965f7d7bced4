// Products of rows with one tile of 64 output columns. Internal to kernels/x86.
#pragma once

#include "kernels/x86/simd.hpp"
#include "kernels/x86/tile_packing.hpp"

#include <algorithm>

namespace moira {

// How the elements of a tile meet the activations.
enum class tile_format { f32, bf16_wide, bf16_dot, f8_e4m3 };

inline tile_format tile_format_of(const moira_quantization& quantization, uint32_t compute) {
    switch (quantization.weight_type) {
    case MOIRA_TYPE_BF16:
        return simd_has_bf16_dot && compute == MOIRA_COMPUTE_AUTO ? tile_format::bf16_dot : tile_format::bf16_wide;
    case MOIRA_TYPE_F8_E4M3:
        return tile_format::f8_e4m3;
    default:
        return tile_format::f32;
    }
}

// One packed matrix.
struct tile_matrix {
    const char* tiles;
    const float* scales; // F8 only
    tile_format format;
    uint64_t tile_bytes;
    uint32_t k;
    uint32_t block_n;
    uint32_t block_k;
};

inline tile_matrix tile_matrix_at(const moira_quantization& quantization, uint32_t compute, uint32_t n, uint32_t k,
                                  const void* packed) {
    const uint64_t bytes = tile_bytes(quantization.weight_type, k);
    const char* tiles = static_cast<const char*>(packed);
    const float* scales = quantization.scale_mode == MOIRA_SCALE_BLOCK
                              ? reinterpret_cast<const float*>(tiles + tile_count(n) * bytes)
                              : nullptr;
    return {tiles, scales, tile_format_of(quantization, compute), bytes, k, quantization.block_n, quantization.block_k};
}

// Rows that share one pass over a tile's cached bytes: a multiple of both register blocks (6 and 2), and 12 KiB of
// sums.
inline constexpr uint32_t pass_rows = 48;

// sums[row][column] of one tile, 64 columns per row.
struct alignas(64) tile_sums {
    float at[pass_rows][tile_columns];
};

// sums = x[rows] * tile, rows 1 to pass_rows. x[r] has matrix.k floats; nothing behind them is read.
void multiply_tile(const tile_matrix& matrix, uint64_t tile, const float* const* x, uint32_t rows, tile_sums& sums);

} // namespace moira
