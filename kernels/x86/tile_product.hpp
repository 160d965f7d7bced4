// Products of rows with one tile of 64 output columns. Internal to kernels/x86.
#pragma once

#include "kernels/x86/simd.hpp"
#include "kernels/x86/tile_packing.hpp"

#include <algorithm>

namespace moira {

// How the elements of a tile meet the activations: widened to float32, or as BF16 pairs by dot product.
enum class tile_format { f32, bf16_wide, bf16_dot, f8_wide, f8_dot };

inline tile_format tile_format_of(const moira_quantization& quantization, uint32_t compute) {
    const bool dot = simd_has_bf16_dot && compute == MOIRA_COMPUTE_AUTO;
    switch (quantization.weight_type) {
    case MOIRA_TYPE_BF16:
        return dot ? tile_format::bf16_dot : tile_format::bf16_wide;
    case MOIRA_TYPE_F8_E4M3:
        return dot ? tile_format::f8_dot : tile_format::f8_wide;
    default:
        return tile_format::f32;
    }
}

// What all tiles of a matrix have in common.
struct tile_shape {
    tile_format format;
    uint32_t k;
    uint32_t block_k; // F8 only
    uint64_t tile_bytes;
};

// One tile. scales: one per block of K, F8 only. next: what is read after it, fetched ahead near its end; only a hint.
struct tile_weights {
    const char* data;
    const float* scales;
    const char* next;
};

// One packed matrix.
struct tile_matrix {
    tile_shape shape;
    const char* tiles;
    const float* scales;
    uint64_t scale_blocks; // of one row of scales
    uint32_t block_n;

    // step: tiles to the next one that is read.
    tile_weights at(uint64_t tile, uint32_t step) const {
        const char* data = tiles + tile * shape.tile_bytes;
        return {data, scales ? scales + tile * tile_columns / block_n * scale_blocks : nullptr,
                data + step * shape.tile_bytes};
    }
};

inline tile_matrix tile_matrix_at(const moira_quantization& quantization, uint32_t compute, uint32_t n, uint32_t k,
                                  const void* packed) {
    tile_matrix matrix{};
    matrix.shape = {tile_format_of(quantization, compute), k, quantization.block_k, tile_bytes(quantization, k)};
    matrix.tiles = static_cast<const char*>(packed);
    if (quantization.scale_mode == MOIRA_SCALE_BLOCK) {
        matrix.scales = reinterpret_cast<const float*>(matrix.tiles + tile_count(n) * matrix.shape.tile_bytes);
        matrix.scale_blocks = (uint64_t{k} + quantization.block_k - 1) / quantization.block_k;
        matrix.block_n = quantization.block_n;
    }
    return matrix;
}

// Rows that share one pass over a tile's cached bytes: a multiple of both register blocks (6 and 2), and 12 KiB of
// sums.
inline constexpr uint32_t pass_rows = 48;

// Tiles that share one pass over the rows: rounding 32 activations to BF16 takes about 4 cycles, meeting them with one
// tile 32 (two dot products per cycle), so four tiles bring the rounding down to 3 %. Their sums take 48 KiB.
inline constexpr uint32_t pass_tiles = 4;

// Up to this many rows memory is the limit, and one linear stream is what it delivers best: one tile after the other.
inline constexpr uint32_t single_stream_rows = 8;

// sums[row][column] of one tile, 64 columns per row.
struct alignas(64) tile_sums {
    float at[pass_rows][tile_columns];
};

// sums[t] = x[rows] * tiles[t] for rows 1 to pass_rows. x[r] has shape.k floats; nothing behind them is read.
void multiply_tiles(const tile_shape& shape, const tile_weights* tiles, uint32_t tile_total, const float* const* x,
                    uint32_t rows, tile_sums* sums);

// The part of it for dot products, in tile_dot.cpp.
void multiply_tiles_dot(const tile_shape& shape, const tile_weights* tiles, uint32_t tile_total, const float* const* x,
                        uint32_t rows, tile_sums* sums);

// The part of that for few rows, in tile_stream.cpp: so many fit the registers beside the weights.
inline constexpr uint32_t stream_rows_max = simd_block_rows;
bool streams_tiles(const tile_shape& shape, uint32_t rows);
void stream_tiles(const tile_shape& shape, const tile_weights* tiles, uint32_t tile_total, const float* const* x,
                  uint32_t rows, tile_sums* sums);

} // namespace moira
