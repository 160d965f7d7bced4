// out = x W^T (+ bias), for projections, logits and routers.
//
//   gemm_round_rows   x rounded to BF16, rows padded with zeros to whole stages
//   gemm_tiles        on tensor cores (tile_product.hpp), for BF16, F8_E4M3 and MXFP4 weights
//   gemm_exact        in float32, for whatever must not lose bits: routers, and F32 and F16 weights
//
// Arithmetic: a projection of 2,048 x 2,048 in BF16 is 8.4 MB, 2.5 us at 3.35 TB/s, with 64 blocks of 32 columns at up
// to 8 rows: 12 stages of 4 KiB keep 2.9 MB in flight, where 2.5 MB cover the latency; filling and draining take as
// long again. The head (151,936 x 2,048, 622 MB, 186 us) has 4,748 blocks (ARITHMETIC.md). Many rows: as expert_down,
// 256 columns x 128 rows per block. A router of 128 x 2,048 in BF16 is 0.5 MB, in float32 1 MB: bound by latency.
// gemm_exact's 8 blocks of 8 warps have all of it under way after a few loads; 3 us expected.
#pragma once

#include "kernels/cuda/device/number_formats.hpp"
#include "kernels/cuda/sm80/tile_product.hpp"

namespace moira {

struct gemm_kernel_args {
    const unsigned char* weight; // packed
    const float* x;              // gemm_round_rows and gemm_exact
    uint64_t x_stride;
    uint16_t* x_rounded; // [rows, x_width]
    uint32_t x_width;    // k, padded to whole stages
    uint32_t rows;
    uint32_t n;
    uint32_t k;
    const float* bias; // or nullptr
    uint32_t accumulate;
    float* out;
    uint64_t out_stride;
    // Between the products of a batch (blockIdx.z), which share rows, n and k. weight in bytes.
    uint64_t weight_batch, x_batch, x_rounded_batch, out_batch;
};

SIMT_FN void store_gemm(const gemm_kernel_args& args, uint64_t row, uint32_t column, float sum) {
    if (args.bias)
        sum += args.bias[column];
    float* out = args.out + blockIdx.z * args.out_batch + row * args.out_stride + column;
    *out = args.accumulate ? *out + sum : sum;
}

inline constexpr uint32_t gemm_round_threads = 256;

// Grid: rows, 1, batch.
SIMT_KERNEL(gemm_round_threads) gemm_round_rows(gemm_kernel_args args) {
    const float* x = args.x + blockIdx.z * args.x_batch + uint64_t{blockIdx.x} * args.x_stride;
    uint16_t* rounded = args.x_rounded + blockIdx.z * args.x_rounded_batch + uint64_t{blockIdx.x} * args.x_width;
    for (uint32_t k = threadIdx.x * 2; k < args.x_width; k += gemm_round_threads * 2) {
        const float low = k < args.k ? x[k] : 0.0f;
        const float high = k + 1 < args.k ? x[k + 1] : 0.0f;
        store_vector(rounded + k, bf16x2_of(low, high));
    }
}

// Grid: n in blocks of Shape::columns, then rows in blocks of Shape::rows, batch.
template <class Shape>
SIMT_KERNEL(Shape::threads)
gemm_tiles(gemm_kernel_args args) {
    SIMT_SHARED_DYNAMIC(unsigned char, shared);
    const uint64_t first_row = uint64_t{blockIdx.y} * Shape::rows;
    product_source source;
    source.weight = source.weight2 = args.weight + blockIdx.z * args.weight_batch;
    source.x = args.x_rounded + blockIdx.z * args.x_rounded_batch + first_row * args.x_width;
    source.x_stride = args.x_width;
    source.rows = args.rows - uint32_t(first_row) < Shape::rows ? args.rows - uint32_t(first_row) : Shape::rows;
    source.column_tile = blockIdx.x * Shape::column_tiles;
    source.column_tiles = (args.n + weight_tile_rows - 1) / weight_tile_rows;
    source.stages = args.x_width / Shape::stage_k;
    product_sums<Shape> sums;
    multiply_tile<Shape>(source, shared, sums);
    for_sums<Shape>(source, sums, [&](float sum, float, uint32_t column, uint32_t row) {
        if (column < args.n)
            store_gemm(args, first_row + row, column, sum);
    });
}

template <weight_format format, uint32_t rows>
struct gemm_shape;
template <weight_format format>
struct gemm_shape<format, 8> {
    using type = product_shape<format, 1, 1, 2, 1, 1, 12>;
};
template <weight_format format>
struct gemm_shape<format, 32> {
    using type = product_shape<format, 1, 2, 4, 1, 4, 4>;
};
template <weight_format format>
struct gemm_shape<format, 128> {
    using type = product_shape<format, 1, format == weight_format::bf16 ? 4 : 2, 4, 2, 8, 3>;
};

constexpr uint32_t gemm_tile_rows(uint32_t rows) {
    return rows <= 16 ? 8 : rows <= 96 ? 32 : 128;
}

// ---- float32 -------------------------------------------------------------------------------------------------------

inline constexpr uint32_t gemm_exact_warps = 8;
inline constexpr uint32_t gemm_exact_rows = 4; // of x at a time

// A lane's 8 elements of a fragment, in the order of mma_a_place.
template <weight_format format>
SIMT_FN void load_wide_fragment(const unsigned char* tile, uint32_t fragment, uint32_t lane, float (&w)[8]) {
    if constexpr (format == weight_format::f32) {
        SIMT_UNROLL
        for (uint32_t half = 0; half < 2; ++half) {
            const auto part = load_vector<float4>(tile + fragment * 1024 + half * 512 + lane * 16);
            w[half * 4] = part.x;
            w[half * 4 + 1] = part.y;
            w[half * 4 + 2] = part.z;
            w[half * 4 + 3] = part.w;
        }
    } else {
        const auto part = load_vector<uint4>(tile + fragment * 512 + lane * 16);
        const uint32_t words[4] = {part.x, part.y, part.z, part.w};
        SIMT_UNROLL
        for (uint32_t i = 0; i < 4; ++i) {
            if constexpr (format == weight_format::bf16) {
                w[i * 2] = bf16_low(words[i]);
                w[i * 2 + 1] = bf16_high(words[i]);
            } else {
                static_assert(format == weight_format::f16, "the other formats are not multiplied in float32");
                w[i * 2] = f16_value(uint16_t(words[i] & 0xFFFFu));
                w[i * 2 + 1] = f16_value(uint16_t(words[i] >> 16));
            }
        }
    }
}

// One tile of K: adds to the sums of this lane's two output columns (lane / 4, and 8 below) for a few rows.
template <weight_format format>
SIMT_FN void add_exact_tile(const gemm_kernel_args& args, const unsigned char* tile, uint32_t first_k,
                            uint32_t first_row, float (&sums)[gemm_exact_rows][2]) {
    const uint32_t lane = lane_of_thread();
    for (uint32_t fragment = 0; fragment < weight_tile_k(format) / weight_fragment_k; ++fragment) {
        float w[8];
        load_wide_fragment<format>(tile, fragment, lane, w);
        SIMT_UNROLL
        for (uint32_t row = 0; row < gemm_exact_rows; ++row) {
            SIMT_UNROLL
            for (uint32_t element = 0; element < 8; ++element) {
                const tile_place place = mma_a_place(lane, element);
                const uint32_t k = first_k + fragment * weight_fragment_k + place.column;
                const bool exists = k < args.k && first_row + row < args.rows;
                const float x = exists ? args.x[uint64_t{first_row + row} * args.x_stride + k] : 0.0f;
                // A weight past k is 0, but 0 times what x holds for other rows must not be NaN: x is 0 there, too.
                sums[row][place.row / 8] += product(w[element], x);
            }
        }
    }
}

// Grid: n in tiles of 16, then rows in fours. The warps take tiles of K in turn and their sums are added in warp order:
// the order of an element's sum depends on k only.
template <weight_format format>
SIMT_KERNEL(gemm_exact_warps* warp_lanes)
gemm_exact(gemm_kernel_args args) {
    constexpr uint32_t tile_sums = gemm_exact_rows * weight_tile_rows;
    SIMT_SHARED(float, warp_sums, gemm_exact_warps* tile_sums);
    const uint32_t lane = lane_of_thread();
    const uint32_t warp = warp_of_thread();
    const uint32_t k_tiles = args.x_width / weight_tile_k(format);
    const uint32_t first_row = blockIdx.y * gemm_exact_rows;
    float sums[gemm_exact_rows][2] = {};
    for (uint32_t tile = warp; tile < k_tiles; tile += gemm_exact_warps)
        add_exact_tile<format>(args, args.weight + (uint64_t{blockIdx.x} * k_tiles + tile) * weight_tile_bytes(format),
                               tile * weight_tile_k(format), first_row, sums);
    SIMT_UNROLL
    for (uint32_t row = 0; row < gemm_exact_rows; ++row) {
        SIMT_UNROLL
        for (uint32_t half = 0; half < 2; ++half) { // the four lanes of a column hold different elements of K
            float sum = sums[row][half];
            sum += __shfl_xor_sync(warp_full, sum, 1);
            sum += __shfl_xor_sync(warp_full, sum, 2);
            if (lane % 4 == 0)
                warp_sums[warp * tile_sums + row * weight_tile_rows + half * 8 + lane / 4] = sum;
        }
    }
    __syncthreads();
    if (threadIdx.x >= tile_sums)
        return;
    float sum = 0.0f;
    for (uint32_t part = 0; part < gemm_exact_warps; ++part)
        sum += warp_sums[part * tile_sums + threadIdx.x];
    const uint32_t row = first_row + threadIdx.x / weight_tile_rows;
    const uint32_t column = blockIdx.x * weight_tile_rows + threadIdx.x % weight_tile_rows;
    if (row < args.rows && column < args.n)
        store_gemm(args, row, column, sum);
}

} // namespace moira
