// Grouped expert FFN: three kernels per launch.
//   expert_prepare      reads the groups, checks their entries, cuts them into tiles of rows, and rounds the rows of x
//                       to BF16, pair by pair
//   expert_gate_up      h = activation(gate x, up x) as BF16, per pair
//   expert_down         out[pair] = down h
// Group counts and expert entries are read from device memory by every launch: neither a changed entry nor changed
// counts need another graph. A group whose entry is empty or stale is reported and never read; its rows become zeros.
//
// Arithmetic, for one layer shaped like qwen3-30b-a3b (hidden 2,048, inner 768, 8 of 128 experts), one row: BF16 8 x 3
// x 2,048 x 768 x 2 = 75.5 MB of weights against 0.2 MB of activations and 75 Mflop: bound by memory, 22.5 us at 3.35
// TB/s (FP8 38.0 MB, 11.3 us; MXFP4 20.1 MB, 6.0 us). Blocks of 2 warps with 6 stages keep 5 x 9.4 KiB in flight each,
// gate and up give 192 of them, down 256: 9 and 12 MB in flight, where 2.5 MB cover the latency. What is
// expected of whole launches: kernels/cuda/ARITHMETIC.md.
// Many rows, 128 per tile: a stage brings 2 x 128 columns x 64 of K (32 KiB) and 128 rows (18 KiB) for 4.2 Mflop, 41
// flop per byte of shared memory read by ldmatrix and 84 per byte from L2. mma.sync reaches about 62 % of an H100's
// 989 TFLOP/s.
#pragma once

#include "kernels/cuda/device/number_formats.hpp"
#include "kernels/cuda/sm80/tile_product.hpp"
#include "plugins/moira_plugin.h"

#include <cmath>

namespace moira {

// Rows of one group that are multiplied together. In the workspace; those past the last have no rows.
struct alignas(16) expert_tile {
    uint64_t address; // of the slab, or 0: not readable, the rows become zeros
    uint32_t pair_begin;
    uint32_t pair_count;
};

// Bytes from a slab's beginning.
struct expert_offsets {
    uint64_t gate, up, down, gate_bias, up_bias, down_bias;
};

struct expert_prepare_args {
    uint32_t groups;
    uint32_t pairs;
    uint32_t experts;
    uint32_t layout_id; // expected, or 0: any
    uint32_t tile_rows;
    uint32_t tiles; // there is room for
    uint32_t hidden;
    uint32_t x_width; // hidden, padded
    const float* x;
    uint64_t x_stride;
    const moira_expert_entry* table;
    const moira_expert_group* group_table;
    const uint32_t* group_count; // null: groups
    const moira_expert_pair* pair_table;
    expert_tile* tile_table;
    uint16_t* x_rounded; // [pairs, x_width]
    step_error_slot* error;
};

struct expert_product_args {
    expert_offsets offsets;
    const expert_tile* tile_table;
    const moira_expert_pair* pair_table; // of expert_down
    const uint16_t* in;                  // [pairs, in_width]
    uint32_t in_width;                   // a whole number of stages
    uint32_t columns;                    // of each matrix
    uint32_t columns_padded;             // expert_gate_up writes up to here
    uint32_t activation;                 // MOIRA_FFN_*
    float alpha;
    float limit;
    uint16_t* inner; // expert_gate_up: [pairs, columns_padded]
    float* out;      // expert_down
    uint64_t out_stride;
};

// ---- expert_prepare ------------------------------------------------------------------------------------------------

inline constexpr uint32_t expert_prepare_threads = 256;

// The entry's address, or 0 after a report.
SIMT_FN uint64_t readable_expert(const expert_prepare_args& args, const moira_expert_group& group, uint32_t index) {
    uint32_t code = MOIRA_ERROR_EXPERT_EMPTY;
    if (group.expert < args.experts) {
        const moira_expert_entry entry = args.table[group.expert];
        const bool other_layout = entry.layout_id != 0 && args.layout_id != 0 && entry.layout_id != args.layout_id;
        if (entry.address != 0 && entry.generation == group.generation && !other_layout)
            return entry.address;
        if (entry.address != 0)
            code = MOIRA_ERROR_EXPERT_STALE;
    }
    report_step_error(args.error, code, index, int32_t(group.expert));
    return 0;
}

// The sum of the values of all lower threads; `total` the sum of all. Whole block, 8 warps.
SIMT_FN uint32_t block_prefix(uint32_t value, uint32_t* warp_totals, uint32_t& total) {
    const uint32_t lane = lane_of_thread();
    uint32_t sum = value;
    SIMT_UNROLL
    for (uint32_t distance = 1; distance < warp_lanes; distance *= 2) {
        const uint32_t lower = __shfl_up_sync(warp_full, sum, distance);
        sum += lane >= distance ? lower : 0;
    }
    if (lane == warp_lanes - 1)
        warp_totals[warp_of_thread()] = sum;
    __syncthreads();
    uint32_t before = 0;
    total = 0;
    for (uint32_t warp = 0; warp < expert_prepare_threads / warp_lanes; ++warp) {
        before += warp < warp_of_thread() ? warp_totals[warp] : 0;
        total += warp_totals[warp];
    }
    __syncthreads();
    return before + sum - value;
}

// Groups that there are: what the device has counted, at most the launch's.
SIMT_FN uint32_t group_count_of(const expert_prepare_args& args) {
    return args.group_count != nullptr && *args.group_count < args.groups ? *args.group_count : args.groups;
}

// One block: thread t takes group t, t + 256, ...
SIMT_FN void cut_groups(const expert_prepare_args& args) {
    SIMT_SHARED(uint32_t, warp_totals, expert_prepare_threads / warp_lanes);
    uint32_t tiles_before = 0;
    const uint32_t groups = group_count_of(args);
    for (uint32_t first = 0; first < groups; first += expert_prepare_threads) {
        const uint32_t index = first + threadIdx.x;
        moira_expert_group group{};
        if (index < groups)
            group = args.group_table[index];
        // Pairs past the launch's are not there: a wrong count must not write past the tables.
        const uint32_t begin = group.pair_begin < args.pairs ? group.pair_begin : args.pairs;
        const uint32_t count = group.pair_count < args.pairs - begin ? group.pair_count : args.pairs - begin;
        const uint32_t tiles = (count + args.tile_rows - 1) / args.tile_rows;
        uint32_t tiles_of_all;
        const uint32_t tile = tiles_before + block_prefix(tiles, warp_totals, tiles_of_all);
        const uint64_t address = count == 0 ? 0 : readable_expert(args, group, index);
        for (uint32_t i = 0; i < tiles && tile + i < args.tiles; ++i) {
            const uint32_t done = i * args.tile_rows;
            const uint32_t rows = count - done < args.tile_rows ? count - done : args.tile_rows;
            args.tile_table[tile + i] = {address, begin + done, rows};
        }
        tiles_before += tiles_of_all;
    }
    for (uint32_t tile = tiles_before + threadIdx.x; tile < args.tiles; tile += expert_prepare_threads)
        args.tile_table[tile] = {0, 0, 0};
}

// Grid: one block, then one per pair.
SIMT_KERNEL(expert_prepare_threads) expert_prepare(expert_prepare_args args) {
    if (blockIdx.x == 0) {
        cut_groups(args);
        return;
    }
    const uint64_t pair = blockIdx.x - 1;
    const int32_t row = args.pair_table[pair].row;
    if (row < 0) // of no group
        return;
    const float* x = args.x + uint64_t(row) * args.x_stride;
    uint16_t* rounded = args.x_rounded + pair * args.x_width;
    for (uint32_t k = threadIdx.x * 2; k < args.x_width; k += expert_prepare_threads * 2) {
        const float low = k < args.hidden ? x[k] : 0.0f;
        const float high = k + 1 < args.hidden ? x[k + 1] : 0.0f;
        store_vector(rounded + k, bf16x2_of(low, high));
    }
}

// ---- the products --------------------------------------------------------------------------------------------------

SIMT_FN float gated_value(const expert_product_args& args, float gate, float up) {
    if (args.activation == MOIRA_FFN_SILU_GATED)
        return product(gate / (1.0f + expf(-gate)), up);
    gate = gate < args.limit ? gate : args.limit;
    up = up < args.limit ? up : args.limit;
    up = up > -args.limit ? up : -args.limit;
    return product(gate / (1.0f + expf(-product(args.alpha, gate))), up + 1.0f);
}

template <class Shape>
SIMT_FN product_source source_of(const expert_product_args& args, const expert_tile& tile) {
    product_source source;
    source.x = args.in + uint64_t{tile.pair_begin} * args.in_width;
    source.x_stride = args.in_width;
    source.rows = tile.pair_count;
    source.column_tile = blockIdx.x * Shape::column_tiles;
    source.column_tiles = (args.columns + weight_tile_rows - 1) / weight_tile_rows;
    source.stages = args.in_width / Shape::stage_k;
    return source;
}

// Grid: columns_padded in blocks of Shape::columns, then tiles of rows.
template <class Shape>
SIMT_KERNEL(Shape::threads)
expert_gate_up(expert_product_args args) {
    static_assert(Shape::matrices == 2);
    const expert_tile tile = args.tile_table[blockIdx.y];
    if (tile.pair_count == 0 || tile.address == 0)
        return;
    SIMT_SHARED_DYNAMIC(unsigned char, shared);
    const auto* slab = reinterpret_cast<const unsigned char*>(tile.address);
    product_source source = source_of<Shape>(args, tile);
    source.weight = slab + args.offsets.gate;
    source.weight2 = slab + args.offsets.up;
    product_sums<Shape> sums;
    multiply_tile<Shape>(source, shared, sums);
    const auto* gate_bias = reinterpret_cast<const float*>(slab + args.offsets.gate_bias);
    const auto* up_bias = reinterpret_cast<const float*>(slab + args.offsets.up_bias);
    for_sums<Shape>(source, sums, [&](float gate, float up, uint32_t column, uint32_t row) {
        if (column >= args.columns_padded)
            return;
        float value = 0.0f;
        if (column < args.columns)
            value = gated_value(args, gate + gate_bias[column], up + up_bias[column]);
        args.inner[(uint64_t{tile.pair_begin} + row) * args.columns_padded + column] = uint16_t(bf16x2_of(value, 0.0f));
    });
}

// Grid: columns in blocks of Shape::columns, then tiles of rows.
template <class Shape>
SIMT_KERNEL(Shape::threads)
expert_down(expert_product_args args) {
    static_assert(Shape::matrices == 1);
    const expert_tile tile = args.tile_table[blockIdx.y];
    if (tile.pair_count == 0)
        return;
    product_source source = source_of<Shape>(args, tile);
    product_sums<Shape> sums;
    const auto* slab = reinterpret_cast<const unsigned char*>(tile.address);
    if (tile.address != 0) {
        SIMT_SHARED_DYNAMIC(unsigned char, shared);
        source.weight = source.weight2 = slab + args.offsets.down;
        multiply_tile<Shape>(source, shared, sums);
    }
    const auto* bias = reinterpret_cast<const float*>(slab + args.offsets.down_bias);
    for_sums<Shape>(source, sums, [&](float sum, float, uint32_t column, uint32_t row) {
        if (column >= args.columns)
            return;
        const int32_t out_row = args.pair_table[tile.pair_begin + row].out_row;
        args.out[uint64_t(out_row) * args.out_stride + column] = tile.address != 0 ? sum + bias[column] : 0.0f;
    });
}

// ---- shapes --------------------------------------------------------------------------------------------------------

// Rows per tile: 8 for decode, 32 for what lies between, 128 for prefill. FP8 keeps totals beside its partial sums and
// MXFP4 needs registers to widen, so their widest tile has half the columns.
template <weight_format format, uint32_t rows, uint32_t matrices>
struct expert_shape;
template <weight_format format, uint32_t matrices>
struct expert_shape<format, 8, matrices> {
    using type = product_shape<format, matrices, 2 / matrices, 2, 1, 1, 6>;
};
template <weight_format format, uint32_t matrices>
struct expert_shape<format, 32, matrices> {
    using type = product_shape<format, matrices, 2 / matrices, 4, 1, 4, 4>;
};
template <weight_format format, uint32_t matrices>
struct expert_shape<format, 128, matrices> {
    using type = product_shape<format, matrices, (format == weight_format::bf16 ? 4 : 2) / matrices, 4, 2, 8, 3>;
};

// By the rows that a group has on average.
constexpr uint32_t expert_tile_rows(uint32_t groups, uint32_t pairs) {
    const uint32_t average = groups == 0 ? 0 : pairs / groups;
    return average <= 12 ? 8 : average <= 48 ? 32 : 128;
}

// The most tiles that `groups` groups with `pairs` pairs in all can have.
constexpr uint32_t expert_tiles_max(uint32_t groups, uint32_t pairs, uint32_t tile_rows) {
    return (groups < pairs ? groups : pairs) + pairs / tile_rows;
}

} // namespace moira
