// The grouped expert FFN and gemm on wgmma. Tables, errors and the order of launches are those of sm_80
// (expert_ffn_kernels.hpp, gemm_kernels.hpp); what differs is the product (wgmma_product.hpp) and how rounded rows lie.
//
// Arithmetic, for one layer shaped like qwen3-30b-a3b (hidden 2,048, inner 768, 8 of 128 experts), one row, H100 SXM
// (132 SMs, 3.35 TB/s): BF16 75.5 MB of weights, 22.5 us; FP8 38.0 MB, 11.3 us; MXFP4 20.1 MB, 6.0 us. Gate and up give
// 192 blocks of 32 columns with 6 stages of 9 KiB: 54 KiB each, all resident at once, 10 MB in flight where 2.5 MB
// cover the latency, and no register holds any of it; down gives 512 blocks with 12 stages of 5 KiB. A stage is 5 bulk
// copies, or 3: one per weight tile and one for the rows. Expected: 80 % of
// the bandwidth within the two products, less about 2 us for three launches in a graph: 70 % at one row for BF16, 60 %
// FP8. Many rows, BF16, 128 per tile: a stage brings 2 x 128 columns x 64 of K (32 KiB) and 128 rows (16 KiB) for 2.1 M
// multiply-adds, 1,024 cycles of the tensor cores; shared memory gives 32 KiB to registers and 64 KiB to wgmma
// meanwhile, 96 of its 128 bytes per cycle. One warpgroup loads and widens while the other multiplies. Expected 60 to
// 65 % of the 989 TFLOP/s. FP8 keeps totals beside its partial sums and has 64 rows per tile: widening takes half of
// the issue slots, expected 50 %.
#pragma once

#include "kernels/cuda/sm80/expert_ffn_kernels.hpp"
#include "kernels/cuda/sm80/gemm_kernels.hpp"
#include "kernels/cuda/sm90/wgmma_product.hpp"

namespace moira {

// ---- expert FFN -----------------------------------------------------------------------------------------------------

inline constexpr unsigned long long no_group = ~0ull;

// The group that has a pair: the first one in the list, no_group when none has. The whole block.
SIMT_FN unsigned long long group_of_pair(const expert_prepare_args& args, uint32_t pair) {
    SIMT_SHARED(unsigned long long, found, 1);
    if (threadIdx.x == 0)
        found[0] = no_group;
    __syncthreads();
    const uint32_t groups = group_count_of(args);
    for (uint32_t index = threadIdx.x; index < groups; index += expert_prepare_threads) {
        const moira_expert_group group = args.group_table[index];
        if (pair >= group.pair_begin && pair - group.pair_begin < group.pair_count)
            atomicMin(&found[0], index);
    }
    __syncthreads();
    return found[0];
}

// As expert_prepare; x_rounded holds the rows of each tile as [x_width / 8][rows][8].
SIMT_KERNEL(expert_prepare_threads) wgmma_prepare(expert_prepare_args args) {
    if (blockIdx.x == 0) {
        cut_groups(args);
        return;
    }
    const uint32_t pair = blockIdx.x - 1;
    const unsigned long long index = group_of_pair(args, pair);
    if (index == no_group)
        return;
    const moira_expert_group group = args.group_table[index];
    const uint32_t count =
        group.pair_count < args.pairs - group.pair_begin ? group.pair_count : args.pairs - group.pair_begin;
    const uint32_t row = (pair - group.pair_begin) % args.tile_rows;
    const uint32_t left = group.pair_begin + count - (pair - row); // from the tile's first pair on
    const uint32_t rows = left < args.tile_rows ? left : args.tile_rows;
    round_row(args.x + uint64_t(args.pair_table[pair].row) * args.x_stride, args.hidden, args.x_width,
              args.x_rounded + uint64_t{pair - row} * args.x_width, rows, row);
}

template <class Shape>
SIMT_FN wgmma_source wgmma_source_of(const expert_product_args& args, const expert_tile& tile) {
    wgmma_source source;
    source.x = reinterpret_cast<const unsigned char*>(args.in + uint64_t{tile.pair_begin} * args.in_width);
    source.rows = tile.pair_count;
    source.column_tile = blockIdx.x * Shape::column_tiles;
    source.column_tiles = (args.columns + weight_tile_rows - 1) / weight_tile_rows;
    source.stages = args.in_width / Shape::stage_k;
    return source;
}

// Grid: columns_padded in blocks of Shape::columns, then tiles of rows.
template <class Shape>
SIMT_KERNEL(Shape::threads)
wgmma_gate_up(expert_product_args args) {
    static_assert(Shape::matrices == 2);
    const expert_tile tile = args.tile_table[blockIdx.y];
    if (tile.pair_count == 0 || tile.address == 0)
        return;
    SIMT_SHARED_DYNAMIC(unsigned char, shared);
    const auto* slab = reinterpret_cast<const unsigned char*>(tile.address);
    wgmma_source source = wgmma_source_of<Shape>(args, tile);
    source.weight = slab + args.offsets.gate;
    source.weight2 = slab + args.offsets.up;
    wgmma_sums<Shape> sums;
    const auto* gate_bias = reinterpret_cast<const float*>(slab + args.offsets.gate_bias);
    const auto* up_bias = reinterpret_cast<const float*>(slab + args.offsets.up_bias);
    if (wgmma_multiply_tile<Shape>(source, shared, sums))
        for_wgmma_sums<Shape>(source, sums, [&](float gate, float up, uint32_t column, uint32_t row) {
            if (column >= args.columns_padded)
                return;
            float value = 0.0f;
            if (column < args.columns)
                value = gated_value(args, gate + gate_bias[column], up + up_bias[column]);
            args.inner[uint64_t{tile.pair_begin} * args.columns_padded + tiled_element(tile.pair_count, row, column)] =
                uint16_t(bf16x2_of(value, 0.0f));
        });
}

// This block's columns of rows whose expert cannot be read.
template <class Shape>
SIMT_FN void clear_rows(const expert_product_args& args, const expert_tile& tile) {
    for (uint32_t index = threadIdx.x; index < tile.pair_count * Shape::columns; index += Shape::threads) {
        const uint32_t column = blockIdx.x * Shape::columns + index % Shape::columns;
        const int32_t out_row = args.pair_table[tile.pair_begin + index / Shape::columns].out_row;
        if (column < args.columns)
            args.out[uint64_t(out_row) * args.out_stride + column] = 0.0f;
    }
}

// Grid: columns in blocks of Shape::columns, then tiles of rows.
template <class Shape>
SIMT_KERNEL(Shape::threads)
wgmma_down(expert_product_args args) {
    static_assert(Shape::matrices == 1);
    const expert_tile tile = args.tile_table[blockIdx.y];
    if (tile.pair_count == 0)
        return;
    if (tile.address == 0) {
        clear_rows<Shape>(args, tile);
        return;
    }
    SIMT_SHARED_DYNAMIC(unsigned char, shared);
    const auto* slab = reinterpret_cast<const unsigned char*>(tile.address);
    wgmma_source source = wgmma_source_of<Shape>(args, tile);
    source.weight = source.weight2 = slab + args.offsets.down;
    wgmma_sums<Shape> sums;
    const auto* bias = reinterpret_cast<const float*>(slab + args.offsets.down_bias);
    if (wgmma_multiply_tile<Shape>(source, shared, sums))
        for_wgmma_sums<Shape>(source, sums, [&](float sum, float, uint32_t column, uint32_t row) {
            if (column >= args.columns)
                return;
            const int32_t out_row = args.pair_table[tile.pair_begin + row].out_row;
            args.out[uint64_t(out_row) * args.out_stride + column] = sum + bias[column];
        });
}

// ---- gemm -----------------------------------------------------------------------------------------------------------

struct wgmma_gemm_args {
    gemm_kernel_args gemm; // x_rounded: the rows of each tile as [x_width / 8][rows][8]
    uint32_t tile_rows;

    // Of the tile that begins there.
    SIMT_MEMBER uint32_t rows_from(uint32_t first) const {
        return gemm.rows - first < tile_rows ? gemm.rows - first : tile_rows;
    }
};

// As gemm_round_rows. Grid: rows.
SIMT_KERNEL(gemm_round_threads) wgmma_round_rows(wgmma_gemm_args args) {
    const uint32_t row = blockIdx.x % args.tile_rows;
    const uint32_t first = blockIdx.x - row;
    round_row(args.gemm.x + uint64_t{blockIdx.x} * args.gemm.x_stride, args.gemm.k, args.gemm.x_width,
              args.gemm.x_rounded + uint64_t{first} * args.gemm.x_width, args.rows_from(first), row);
}

// Grid: n in blocks of Shape::columns, then rows in blocks of tile_rows = Shape::rows.
template <class Shape>
SIMT_KERNEL(Shape::threads)
wgmma_gemm(wgmma_gemm_args tiled) {
    SIMT_SHARED_DYNAMIC(unsigned char, shared);
    const gemm_kernel_args& args = tiled.gemm;
    const uint32_t first_row = blockIdx.y * Shape::rows;
    wgmma_source source;
    source.weight = source.weight2 = args.weight;
    source.x = reinterpret_cast<const unsigned char*>(args.x_rounded + uint64_t{first_row} * args.x_width);
    source.rows = tiled.rows_from(first_row);
    source.column_tile = blockIdx.x * Shape::column_tiles;
    source.column_tiles = (args.n + weight_tile_rows - 1) / weight_tile_rows;
    source.stages = args.x_width / Shape::stage_k;
    wgmma_sums<Shape> sums;
    if (wgmma_multiply_tile<Shape>(source, shared, sums))
        for_wgmma_sums<Shape>(source, sums, [&](float sum, float, uint32_t column, uint32_t row) {
            if (column < args.n)
                store_gemm(args, first_row + row, column, sum);
        });
}

// ---- shapes ---------------------------------------------------------------------------------------------------------

// Rows per tile: 8 for decode, 32 for what lies between, 128 for prefill, 64 with FP8.
constexpr uint32_t wgmma_rows_max(weight_format format) {
    return format == weight_format::f8_e4m3 ? 64 : 128;
}

template <weight_format format, uint32_t rows, uint32_t matrices>
struct wgmma_shape_for { // the widest
    using type = wgmma_shape<format, matrices, 16 / matrices, 2, rows, 4>;
};
template <weight_format format, uint32_t matrices>
struct wgmma_shape_for<format, 32, matrices> {
    using type = wgmma_shape<format, matrices, 8 / matrices, 1, 32, format == weight_format::bf16 ? 5 : 4>;
};
template <weight_format format, uint32_t matrices>
struct wgmma_shape_for<format, 8, matrices> {
    using type = wgmma_shape<format, matrices, 2, 1, 8, 12 / matrices>;
};

} // namespace moira
