// E4M3 with one float32 scale per block of block_n x block_k: the form of the checkpoints. Quantising gives the bytes
// of core/model/fp8_quantizer for finite values: scale = largest magnitude / 448, at least the smallest normal float.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/number_formats.hpp"
#include "kernels/cuda/smxx/limits.hpp"

namespace moira {

struct e4m3_blocks_args {
    uint32_t n;
    uint32_t k;
    uint32_t block_n; // 1 for activations: one scale per row and block_k columns
    uint32_t block_k;
    float* values;   // [n, k]: read by quantize, written by dequantize
    uint8_t* stored; // [n, k]
    float* scales;   // [ceil(n / block_n), ceil(k / block_k)]
};

inline launch_shape e4m3_blocks_shape(const e4m3_blocks_args& args) {
    return {(args.k + args.block_k - 1) / args.block_k, (args.n + args.block_n - 1) / args.block_n, 1, row_threads, 0};
}

constexpr float e4m3_largest = 448.0f;

SIMT_FN float e4m3_scale(float largest) {
    if (largest == 0.0f)
        return 1.0f;
    const float scale = largest / e4m3_largest;
    const float smallest_normal = float_of(0x00800000u);
    return scale > smallest_normal ? scale : smallest_normal;
}

// Element `index` of the block, or false past the matrix's edge.
SIMT_FN bool e4m3_element(const e4m3_blocks_args& args, uint32_t index, uint64_t& at) {
    const uint32_t row = blockIdx.y * args.block_n + index / args.block_k;
    const uint32_t column = blockIdx.x * args.block_k + index % args.block_k;
    at = uint64_t{row} * args.k + column;
    return row < args.n && column < args.k;
}

// One block of threads per block of the matrix.
SIMT_KERNEL(row_threads) e4m3_quantize(e4m3_blocks_args args) {
    SIMT_SHARED(float, warp_largest, row_threads / warp_lanes);
    const uint32_t count = args.block_n * args.block_k;
    float largest = 0.0f;
    uint64_t at = 0;
    for (uint32_t index = threadIdx.x; index < count; index += blockDim.x) {
        if (e4m3_element(args, index, at)) {
            const float magnitude = fabsf(args.values[at]);
            largest = magnitude > largest ? magnitude : largest;
        }
    }
    largest = warp_max(largest);
    if (lane_of_thread() == 0)
        warp_largest[warp_of_thread()] = largest;
    __syncthreads();
    for (uint32_t warp = 0; warp < row_threads / warp_lanes; ++warp)
        largest = warp_largest[warp] > largest ? warp_largest[warp] : largest;
    const float scale = e4m3_scale(largest);
    if (threadIdx.x == 0)
        args.scales[uint64_t{blockIdx.y} * gridDim.x + blockIdx.x] = scale;
    for (uint32_t index = threadIdx.x; index < count; index += blockDim.x)
        if (e4m3_element(args, index, at))
            args.stored[at] = f8_e4m3_rounded(args.values[at] / scale);
}

SIMT_KERNEL(row_threads) e4m3_dequantize(e4m3_blocks_args args) {
    const float scale = args.scales[uint64_t{blockIdx.y} * gridDim.x + blockIdx.x];
    uint64_t at = 0;
    for (uint32_t index = threadIdx.x; index < args.block_n * args.block_k; index += blockDim.x)
        if (e4m3_element(args, index, at))
            args.values[at] = f8_e4m3_value(args.stored[at]) * scale;
}

} // namespace moira
