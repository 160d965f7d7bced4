// out = W x for a tile of output columns and up to T rows, on mma.sync m16n8k16 with BF16 operands and float32 sums.
//
// The weights are the A operand (16 output columns), the rows ("tokens") the B operand (8 of them). Per fragment of 512
// bytes of BF16 weights one mma serves up to 8 rows: at 3.35 TB/s an H100's SM receives a fragment every 34 cycles,
// while its tensor cores could take one every cycle. So 1 to 8 rows cost what one costs, and padding the rows to 8
// rather than to 16 halves the idle work and the registers of sums.
//
// Row-exact: an element's sum starts at 0 and is added to in K order, one instruction per 16 of K, whatever T is; K is
// never split, and columns of an mma do not meet. FP8 adds one partial sum per 128 of K, times its scale.
//
// Weights and rows travel through shared memory by cp.async, `stages` tiles of K deep with one barrier per stage. Rows
// lie 16 bytes apart beyond their length, so that the 8 rows of an ldmatrix phase hit different banks.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/sm80/weight_fragments.hpp"

namespace moira {

// `matrices`: 1, or 2 for gate and up, which share their rows. A warp computes tiles_m tiles of 16 columns of each
// matrix for tiles_n times 8 rows; a block has warps_m x warps_n warps.
template <weight_format format_, uint32_t matrices_, uint32_t tiles_m_, uint32_t warps_m_, uint32_t warps_n_,
          uint32_t tiles_n_, uint32_t stages_>
struct product_shape {
    static constexpr weight_format format = format_;
    static constexpr uint32_t matrices = matrices_;
    static constexpr uint32_t tiles_m = tiles_m_;
    static constexpr uint32_t warps_m = warps_m_;
    static constexpr uint32_t warps_n = warps_n_;
    static constexpr uint32_t tiles_n = tiles_n_;
    static constexpr uint32_t stages = stages_;
    static constexpr uint32_t threads = warps_m * warps_n * warp_lanes;
    static constexpr uint32_t stage_k = weight_tile_k(format);
    static constexpr uint32_t column_tiles = warps_m * tiles_m; // of each matrix
    static constexpr uint32_t columns = column_tiles * weight_tile_rows;
    static constexpr uint32_t rows = warps_n * tiles_n * 8;
    static constexpr uint32_t tile_bytes = weight_tile_bytes(format);
    static constexpr uint32_t weight_bytes = matrices * column_tiles * tile_bytes;
    static constexpr uint32_t row_bytes = stage_k * 2 + 16;
    static constexpr uint32_t stage_bytes = weight_bytes + rows * row_bytes;
    static constexpr uint32_t shared_bytes = stages * stage_bytes;
    static_assert(weight_bytes % 16 == 0 && stages >= 2);
    static_assert(shared_bytes <= 163 * 1024, "what compute capability 8.0 gives one block");
};

// What one block multiplies.
struct product_source {
    const unsigned char* weight;  // of the first matrix, whole
    const unsigned char* weight2; // of the second; not an array, which would lie in local memory
    const uint16_t* x;            // of the first row, BF16, padded with zeros to a whole number of stages
    uint64_t x_stride;            // a multiple of stage_k
    uint32_t rows;                // that exist, at least 1
    uint32_t column_tile;         // first
    uint32_t column_tiles;        // of the matrix
    uint32_t stages;              // of K
};

template <class Shape>
struct product_sums {
    float at[Shape::matrices][Shape::tiles_m][Shape::tiles_n][4] = {};
};

template <class Shape>
SIMT_FN void copy_stage(const product_source& source, uint32_t stage, unsigned char* buffer) {
    constexpr uint32_t tile_pieces = Shape::tile_bytes / 16;
    constexpr uint32_t weight_pieces = Shape::weight_bytes / 16;
    SIMT_UNROLL
    for (uint32_t first = 0; first < weight_pieces; first += Shape::threads) {
        const uint32_t piece = first + threadIdx.x;
        if (weight_pieces % Shape::threads != 0 && piece >= weight_pieces)
            break;
        const uint32_t tile = piece / tile_pieces;
        const unsigned char* matrix = tile < Shape::column_tiles ? source.weight : source.weight2;
        const uint32_t column_tile = source.column_tile + tile % Shape::column_tiles;
        const bool wanted = column_tile < source.column_tiles;
        const uint64_t offset = (uint64_t{column_tile} * source.stages + stage) * Shape::tile_bytes;
        cp_async16(buffer + piece * 16, wanted ? matrix + offset + piece % tile_pieces * 16 : matrix, wanted);
    }
    constexpr uint32_t row_pieces = Shape::stage_k / 8;
    constexpr uint32_t pieces = Shape::rows * row_pieces;
    SIMT_UNROLL
    for (uint32_t first = 0; first < pieces; first += Shape::threads) {
        const uint32_t piece = first + threadIdx.x;
        if (pieces % Shape::threads != 0 && piece >= pieces)
            break;
        const uint32_t row = piece / row_pieces;
        const bool wanted = row < source.rows;
        const uint16_t* from = source.x + (wanted ? row * source.x_stride + stage * Shape::stage_k : 0);
        cp_async16(buffer + Shape::weight_bytes + row * Shape::row_bytes + piece % row_pieces * 16,
                   from + (wanted ? piece % row_pieces * 8 : 0), wanted);
    }
}

// One stage that has arrived.
template <class Shape>
SIMT_FN void multiply_stage(const unsigned char* buffer, product_sums<Shape>& sums) {
    const uint32_t lane = lane_of_thread();
    const uint32_t warp_m = warp_of_thread() / Shape::warps_n;
    const uint32_t warp_n = warp_of_thread() % Shape::warps_n;
    const unsigned char* weights = buffer + warp_m * Shape::tiles_m * Shape::tile_bytes;
    // Matrix l / 8 of an ldmatrix is 8 rows by 8 of K; four follow each other in K.
    const unsigned char* rows =
        buffer + Shape::weight_bytes + (warp_n * Shape::tiles_n * 8 + lane % 8) * Shape::row_bytes + lane / 8 * 16;
    SIMT_UNROLL
    for (uint32_t step = 0; step < Shape::stage_k / 32; ++step) {
        uint32_t b[Shape::tiles_n][4];
        SIMT_UNROLL
        for (uint32_t n = 0; n < Shape::tiles_n; ++n)
            ldmatrix_x4(b[n], rows + n * 8 * Shape::row_bytes + step * 64);
        SIMT_UNROLL
        for (uint32_t tile = 0; tile < Shape::matrices * Shape::tiles_m; ++tile) {
            const uint32_t matrix = tile / Shape::tiles_m;
            const uint32_t m = tile % Shape::tiles_m;
            uint32_t a[2][4];
            load_fragments<Shape::format>(weights + (matrix * Shape::column_tiles + m) * Shape::tile_bytes, step, lane,
                                          a);
            SIMT_UNROLL
            for (uint32_t n = 0; n < Shape::tiles_n; ++n) {
                const uint32_t first[2] = {b[n][0], b[n][1]};
                const uint32_t second[2] = {b[n][2], b[n][3]};
                mma_16816_bf16(sums.at[matrix][m][n], a[0], first);
                mma_16816_bf16(sums.at[matrix][m][n], a[1], second);
            }
        }
    }
}

// Adds the partial sums of a stage, times its tiles' scales, to the totals.
template <class Shape>
SIMT_FN void add_scaled(const unsigned char* buffer, const product_sums<Shape>& sums, product_sums<Shape>& totals) {
    const uint32_t warp_m = warp_of_thread() / Shape::warps_n;
    SIMT_UNROLL
    for (uint32_t tile = 0; tile < Shape::matrices * Shape::tiles_m; ++tile) {
        const uint32_t matrix = tile / Shape::tiles_m;
        const uint32_t m = tile % Shape::tiles_m;
        const float scale = tile_scale<Shape::format>(
            buffer + (matrix * Shape::column_tiles + warp_m * Shape::tiles_m + m) * Shape::tile_bytes);
        SIMT_UNROLL
        for (uint32_t n = 0; n < Shape::tiles_n; ++n) {
            SIMT_UNROLL
            for (uint32_t i = 0; i < 4; ++i)
                totals.at[matrix][m][n][i] += product(sums.at[matrix][m][n][i], scale);
        }
    }
}

template <class Shape>
SIMT_FN void multiply_tile(const product_source& source, unsigned char* shared, product_sums<Shape>& sums) {
    SIMT_UNROLL
    for (uint32_t stage = 0; stage + 1 < Shape::stages; ++stage) {
        if (stage < source.stages)
            copy_stage<Shape>(source, stage, shared + stage * Shape::stage_bytes);
        cp_async_commit();
    }
    uint32_t slot = 0;
    uint32_t slot_ahead = Shape::stages - 1;
    for (uint32_t stage = 0; stage < source.stages; ++stage) {
        cp_async_wait<int(Shape::stages) - 2>();
        // Everybody's part of this stage has arrived, and nobody reads the slot that is filled next.
        __syncthreads();
        if (stage + Shape::stages - 1 < source.stages)
            copy_stage<Shape>(source, stage + Shape::stages - 1, shared + slot_ahead * Shape::stage_bytes);
        cp_async_commit();
        const unsigned char* buffer = shared + slot * Shape::stage_bytes;
        if constexpr (has_tile_scale<Shape::format>) {
            product_sums<Shape> partial;
            multiply_stage<Shape>(buffer, partial);
            add_scaled<Shape>(buffer, partial, sums);
        } else {
            multiply_stage<Shape>(buffer, sums);
        }
        slot = slot + 1 == Shape::stages ? 0 : slot + 1;
        slot_ahead = slot_ahead + 1 == Shape::stages ? 0 : slot_ahead + 1;
    }
}

// Calls function(matrix 0's sum, matrix 1's, column, row) for this lane's part of the tile: column within the matrix,
// row within the source.
template <class Shape, class Function>
SIMT_FN void for_sums(const product_source& source, const product_sums<Shape>& sums, const Function& function) {
    const uint32_t lane = lane_of_thread();
    const uint32_t warp_m = warp_of_thread() / Shape::warps_n;
    const uint32_t warp_n = warp_of_thread() % Shape::warps_n;
    SIMT_UNROLL
    for (uint32_t m = 0; m < Shape::tiles_m; ++m) {
        SIMT_UNROLL
        for (uint32_t n = 0; n < Shape::tiles_n; ++n) {
            SIMT_UNROLL
            for (uint32_t i = 0; i < 4; ++i) {
                const tile_place place = mma_c_place(lane, i);
                const uint32_t column =
                    (source.column_tile + warp_m * Shape::tiles_m + m) * weight_tile_rows + place.row;
                const uint32_t row = (warp_n * Shape::tiles_n + n) * 8 + place.column;
                if (row < source.rows)
                    function(sums.at[0][m][n][i], sums.at[Shape::matrices - 1][m][n][i], column, row);
            }
        }
    }
}

} // namespace moira
