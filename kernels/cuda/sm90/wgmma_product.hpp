// out = W x for a tile of output columns and up to N rows, on wgmma m64nNk16 with BF16 operands and float32 sums.
//
// The weights are the A operand and come from registers: a warp's part of A is the fragment of mma.sync, so the packed
// layout is that of sm_80 (weight_tiles.hpp), and FP8 and MXFP4 are widened on the way (weight_fragments.hpp). The rows
// ("tokens") are the B operand, N = 8 to 128, read from shared memory by descriptor.
//
// Warp-specialised: one warp copies, whole warpgroups multiply. Weight tiles and rows arrive by bulk copies, which need
// contiguous runs and no tensor map: a packed tile is one, and so are a tile's rows for a stage of K, which lie in
// memory as [8 of K][row of the tile][8 elements]. In shared memory that is the layout without swizzle: 8 rows x 16
// bytes are 128 contiguous bytes, which is free of bank conflicts as it stands. A tile with fewer than N rows is packed
// as closely; what a product reads past its rows is the next 8 of K, or zeros behind the last. Stages form a ring with
// two barriers each: `full` counts the bytes of a stage, `empty` the warps that are done with it.
//
// Row-exact: the same instruction for any number of rows, in K order, K never split; columns of a product do not meet,
// so what lies beside a row, or where rows are absent, changes nothing. This is also why few rows do not take the
// kernels of sm_80: a row's bits must not depend on how many rows its group has, and nobody documents that mma.sync and
// wgmma add in the same order. A warpgroup multiplies 64 columns at least; with few rows the block is given fewer, so
// that there are enough blocks, and the warps without columns multiply zeros: tensor cores idle then anyway.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/simt_sm90.hpp"
#include "kernels/cuda/sm80/weight_fragments.hpp"

namespace moira {

// `matrices`: 1, or 2 for gate and up, which share their rows. A block multiplies column_tiles tiles of 16 columns of
// each matrix, by `groups` warpgroups, with `rows` rows.
template <weight_format format_, uint32_t matrices_, uint32_t column_tiles_, uint32_t groups_, uint32_t rows_,
          uint32_t stages_>
struct wgmma_shape {
    static constexpr weight_format format = format_;
    static constexpr uint32_t matrices = matrices_;
    static constexpr uint32_t column_tiles = column_tiles_;
    static constexpr uint32_t groups = groups_;
    static constexpr uint32_t rows = rows_;
    static constexpr uint32_t stages = stages_;
    static constexpr uint32_t columns = column_tiles * weight_tile_rows;
    static constexpr uint32_t consumer_warps = groups * warpgroup_warps;
    // Registers are shared out by quarters of an SM: one warp more than two warpgroups would cost each warp a third of
    // its registers. Two warpgroups have a whole third one for copying, which gives its registers back.
    static constexpr bool moves_registers = groups > 1;
    static constexpr uint32_t threads = (consumer_warps + (moves_registers ? warpgroup_warps : 1)) * warp_lanes;
    static constexpr uint32_t tiles_m = column_tiles <= consumer_warps ? 1 : column_tiles / consumer_warps; // per warp
    static constexpr uint32_t tiles = matrices * tiles_m;
    static constexpr uint32_t stage_k = weight_tile_k(format);
    static constexpr uint32_t row_bytes = stage_k * 2; // of one row
    static constexpr uint32_t tile_bytes = weight_tile_bytes(format);
    static constexpr uint32_t weight_bytes = matrices * column_tiles * tile_bytes;
    static constexpr uint32_t stage_bytes = weight_bytes + rows * row_bytes;
    static constexpr uint32_t shared_bytes = stages * stage_bytes;
    static_assert(column_tiles <= warpgroup_warps || column_tiles % consumer_warps == 0);
    static_assert(column_tiles >= warpgroup_warps || groups == 1);
    static_assert(tile_bytes % 16 == 0 && stages >= 2);
    static_assert(shared_bytes + 16 * stages <= 227 * 1024, "what compute capability 9.0 gives one block");
};

// What one block multiplies.
struct wgmma_source {
    const unsigned char* weight;  // of the first matrix, whole
    const unsigned char* weight2; // of the second
    const unsigned char* x;       // the tile's rows, BF16, [8 of K][rows][8]
    uint32_t rows;                // of this tile, at least 1
    uint32_t column_tile;         // first
    uint32_t column_tiles;        // of the matrix
    uint32_t stages;              // of K
};

template <class Shape>
struct wgmma_sums {
    float at[Shape::tiles][Shape::rows / 2] = {};
};

// Where a stage's rows lie for 16 of K; `begin` is the shared address of the first row, `rows` how many the tile has.
SIMT_PURE constexpr matrix_place stage_rows_place(uint32_t begin, uint32_t rows, uint32_t step) {
    return {begin + step * rows * 32, rows * 16, 128, matrix_swizzle::none};
}

// One copy of a stage: a weight tile, or the rows.
struct stage_copy {
    const unsigned char* from;
    uint32_t to; // from the stage's beginning
    uint32_t bytes;
};
template <class Shape>
inline constexpr uint32_t stage_copies = Shape::matrices* Shape::column_tiles + 1;

template <class Shape>
SIMT_PURE stage_copy stage_copy_of(const wgmma_source& source, uint32_t stage, uint32_t index) {
    if (index == Shape::matrices * Shape::column_tiles) {
        const uint32_t bytes = source.rows * Shape::row_bytes;
        return {source.x + uint64_t{stage} * bytes, Shape::weight_bytes, bytes};
    }
    // Past the last tile the last one is copied again: nobody uses what comes of it.
    const unsigned char* matrix = index < Shape::column_tiles ? source.weight : source.weight2;
    const uint32_t wanted = source.column_tile + index % Shape::column_tiles;
    const uint32_t tile = wanted < source.column_tiles ? wanted : source.column_tiles - 1;
    return {matrix + (uint64_t{tile} * source.stages + stage) * Shape::tile_bytes, index * Shape::tile_bytes,
            Shape::tile_bytes};
}
// What all of them bring.
template <class Shape>
SIMT_PURE uint32_t stage_copy_bytes(const wgmma_source& source) {
    return Shape::weight_bytes + source.rows * Shape::row_bytes;
}

// A place in the ring, and the parity of the phase in which it is used.
template <class Shape>
struct ring_place {
    uint32_t slot = 0;
    uint32_t parity = 0;
    SIMT_MEMBER void advance() {
        slot = slot + 1 == Shape::stages ? 0 : slot + 1;
        parity = slot == 0 ? parity ^ 1u : parity;
    }
};

// 128 x 40 + 256 x 232 are what 384 threads of 168 have.
inline constexpr uint32_t copying_registers = 40;
inline constexpr uint32_t multiplying_registers = 232;

// The copying warp.
template <class Shape>
SIMT_FN void copy_stages(const wgmma_source& source, unsigned char* shared, uint64_t* full, uint64_t* empty) {
    ring_place<Shape> place;
    for (uint32_t stage = 0; stage < source.stages; ++stage) {
        mbarrier_wait(empty + place.slot, place.parity ^ 1u);
        if (lane_of_thread() == 0)
            mbarrier_arrive_expect(full + place.slot, stage_copy_bytes<Shape>(source));
        __syncwarp();
        unsigned char* buffer = shared + place.slot * Shape::stage_bytes;
        for (uint32_t index = lane_of_thread(); index < stage_copies<Shape>; index += warp_lanes) {
            const stage_copy copy = stage_copy_of<Shape>(source, stage, index);
            bulk_copy(buffer + copy.to, copy.from, copy.bytes, full + place.slot);
        }
        place.advance();
    }
}

// Which tile of the block a warp multiplies as its m-th.
template <class Shape>
SIMT_FN uint32_t column_tile_of(uint32_t m) {
    const uint32_t group = warp_of_thread() / warpgroup_warps;
    return (group * Shape::tiles_m + m) * warpgroup_warps + warp_of_thread() % warpgroup_warps;
}

// One stage that has arrived; its last products are under way when this returns. Fragments of two steps are held at a
// time: more do not fit beside the sums.
template <class Shape>
SIMT_FN void wgmma_multiply_stage(const unsigned char* buffer, uint32_t rows_present, wgmma_sums<Shape>& sums,
                                  bool anew) {
    constexpr bool has_idle_warps = Shape::column_tiles < Shape::consumer_warps;
    const bool idle = has_idle_warps && column_tile_of<Shape>(0) >= Shape::column_tiles;
    const uint32_t rows_begin = shared_address(buffer) + Shape::weight_bytes;
    SIMT_UNROLL
    for (uint32_t step = 0; step < Shape::stage_k / 32; ++step) {
        if (step >= 2)
            wgmma_wait<1>();
        uint32_t a[Shape::tiles][2][4] = {};
        if (!idle) {
            SIMT_UNROLL
            for (uint32_t tile = 0; tile < Shape::tiles; ++tile) {
                const uint32_t stored =
                    tile / Shape::tiles_m * Shape::column_tiles + column_tile_of<Shape>(tile % Shape::tiles_m);
                load_fragments<Shape::format>(buffer + stored * Shape::tile_bytes, step, lane_of_thread(), a[tile]);
            }
        }
        wgmma_fence();
        SIMT_UNROLL
        for (uint32_t half = 0; half < 2; ++half) {
            const uint64_t rows = encode_matrix(stage_rows_place(rows_begin, rows_present, step * 2 + half));
            SIMT_UNROLL
            for (uint32_t tile = 0; tile < Shape::tiles; ++tile)
                wgmma_bf16<Shape::rows>(sums.at[tile], a[tile][half], rows, !(anew && step == 0 && half == 0));
        }
        wgmma_commit();
    }
}

template <class Shape>
SIMT_FN void settle_sums(wgmma_sums<Shape>& sums) {
    SIMT_UNROLL
    for (uint32_t tile = 0; tile < Shape::tiles; ++tile)
        wgmma_settle(sums.at[tile]);
}

// Adds the partial sums of a stage, times its tiles' scales, to the totals.
template <class Shape>
SIMT_FN void wgmma_add_scaled(const float (&scales)[Shape::tiles], const wgmma_sums<Shape>& partial,
                              wgmma_sums<Shape>& totals) {
    SIMT_UNROLL
    for (uint32_t tile = 0; tile < Shape::tiles; ++tile) {
        SIMT_UNROLL
        for (uint32_t i = 0; i < Shape::rows / 2; ++i)
            totals.at[tile][i] += product(partial.at[tile][i], scales[tile]);
    }
}

template <class Shape>
SIMT_FN void load_scales(const unsigned char* buffer, float (&scales)[Shape::tiles]) {
    SIMT_UNROLL
    for (uint32_t tile = 0; tile < Shape::tiles; ++tile) {
        const uint32_t column_tile = column_tile_of<Shape>(tile % Shape::tiles_m);
        const uint32_t stored = tile / Shape::tiles_m * Shape::column_tiles + column_tile;
        scales[tile] =
            column_tile < Shape::column_tiles ? tile_scale<Shape::format>(buffer + stored * Shape::tile_bytes) : 0.0f;
    }
}

// The multiplying warpgroups.
template <class Shape>
SIMT_FN void wgmma_multiply_stages(const wgmma_source& source, const unsigned char* shared, uint64_t* full,
                                   uint64_t* empty, wgmma_sums<Shape>& sums) {
    ring_place<Shape> place;
    for (uint32_t stage = 0; stage < source.stages; ++stage) {
        mbarrier_wait(full + place.slot, place.parity);
        const unsigned char* buffer = shared + place.slot * Shape::stage_bytes;
        if constexpr (has_tile_scale<Shape::format>) {
            wgmma_sums<Shape> partial;
            float scales[Shape::tiles];
            load_scales<Shape>(buffer, scales);
            wgmma_multiply_stage<Shape>(buffer, source.rows, partial, true);
            wgmma_wait<0>();
            settle_sums<Shape>(partial);
            wgmma_add_scaled<Shape>(scales, partial, sums);
        } else {
            wgmma_multiply_stage<Shape>(buffer, source.rows, sums, false);
            wgmma_wait<0>();
            settle_sums<Shape>(sums);
        }
        __syncwarp(); // the whole warp has read its weights
        if (lane_of_thread() == 0)
            mbarrier_arrive(empty + place.slot);
        place.advance();
    }
}

// Zeros behind the rows of every stage, as far as a product of a tile with absent rows reads.
template <class Shape>
SIMT_FN void clear_behind_rows(const wgmma_source& source, unsigned char* shared) {
    const uint32_t absent = Shape::rows - source.rows;
    const uint32_t slots = source.stages < Shape::stages ? source.stages : Shape::stages;
    unsigned char* behind = shared + Shape::weight_bytes + source.rows * Shape::row_bytes;
    for (uint32_t index = threadIdx.x; index < slots * absent; index += Shape::threads)
        store_vector(behind + index / absent * Shape::stage_bytes + index % absent * 16, uint4{0, 0, 0, 0});
    fence_proxy_async();
}

// Called by the whole block. True in the threads that hold sums; the others have given back registers and must leave.
template <class Shape>
SIMT_FN bool wgmma_multiply_tile(const wgmma_source& source, unsigned char* shared, wgmma_sums<Shape>& sums) {
    SIMT_SHARED(uint64_t, barriers, 2 * Shape::stages);
    uint64_t* full = barriers;
    uint64_t* empty = barriers + Shape::stages;
    if (threadIdx.x == 0) {
        for (uint32_t slot = 0; slot < Shape::stages; ++slot) {
            mbarrier_init(full + slot, 1);
            mbarrier_init(empty + slot, Shape::consumer_warps);
        }
        mbarrier_init_fence();
    }
    clear_behind_rows<Shape>(source, shared);
    __syncthreads();
    if (warp_of_thread() >= Shape::consumer_warps) {
        if constexpr (Shape::moves_registers)
            give_back_registers<copying_registers>();
        if (warp_of_thread() == Shape::consumer_warps)
            copy_stages<Shape>(source, shared, full, empty);
        return false;
    }
    if constexpr (Shape::moves_registers)
        take_registers<multiplying_registers>();
    wgmma_multiply_stages<Shape>(source, shared, full, empty, sums);
    return true;
}

// Calls function(matrix 0's sum, matrix 1's, column, row) for this lane's part of the tile: column within the matrix,
// row within the source.
template <class Shape, class Function>
SIMT_FN void for_wgmma_sums(const wgmma_source& source, const wgmma_sums<Shape>& sums, const Function& function) {
    SIMT_UNROLL
    for (uint32_t m = 0; m < Shape::tiles_m; ++m) {
        const uint32_t column_tile = column_tile_of<Shape>(m);
        if (column_tile >= Shape::column_tiles)
            continue;
        SIMT_UNROLL
        for (uint32_t i = 0; i < Shape::rows / 2; ++i) {
            const tile_place place = wgmma_d_place(lane_of_thread(), i);
            if (place.column < source.rows)
                function(sums.at[m][i], sums.at[Shape::tiles - Shape::tiles_m + m][i],
                         (source.column_tile + column_tile) * weight_tile_rows + place.row, place.column);
        }
    }
}

// ---- rows as bulk copies want them ----------------------------------------------------------------------------------

// Where element (row, column) of a tile of `rows` rows lies, from the tile's beginning, in elements. A tile begins at
// its first row times the width.
SIMT_PURE constexpr uint64_t tiled_element(uint32_t rows, uint32_t row, uint32_t column) {
    return (uint64_t{column / 8} * rows + row) * 8 + column % 8;
}

// One row of x as BF16, padded with zeros up to `width`, into its tile. The whole block.
SIMT_FN void round_row(const float* x, uint32_t k, uint32_t width, uint16_t* tile, uint32_t rows, uint32_t row) {
    for (uint32_t column = threadIdx.x * 8; column < width; column += blockDim.x * 8) {
        float value[8];
        SIMT_UNROLL
        for (uint32_t i = 0; i < 8; ++i)
            value[i] = column + i < k ? x[column + i] : 0.0f;
        const uint4 packed{bf16x2_of(value[0], value[1]), bf16x2_of(value[2], value[3]), bf16x2_of(value[4], value[5]),
                           bf16x2_of(value[6], value[7])};
        store_vector(tile + tiled_element(rows, row, column), packed);
    }
}

} // namespace moira
