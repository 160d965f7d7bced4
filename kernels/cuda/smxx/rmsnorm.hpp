// out = in / sqrt(mean(in^2) + epsilon) * weight. Bytes per vector: width read twice (the second time from the cache),
// written once. The order of the sum depends on the width alone.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/simt.hpp"
#include "kernels/cuda/smxx/limits.hpp"
#include "plugins/moira_plugin.h"

namespace moira {

// Up to here one warp takes a vector (norms of single heads), and a block takes several.
constexpr uint32_t rmsnorm_warp_width_max = 512;
constexpr uint32_t rmsnorm_block_warps = 4;

inline bool rmsnorm_by_warp(const moira_rmsnorm_desc& desc) {
    return desc.width <= rmsnorm_warp_width_max;
}
inline launch_shape rmsnorm_warp_shape(const moira_rmsnorm_desc&, const moira_rmsnorm_args& args) {
    const uint64_t vectors = uint64_t{args.rows} * args.groups;
    return {uint32_t((vectors + rmsnorm_block_warps - 1) / rmsnorm_block_warps), 1, 1, rmsnorm_block_warps * 32, 0};
}
inline launch_shape rmsnorm_block_shape(const moira_rmsnorm_desc&, const moira_rmsnorm_args& args) {
    return {uint32_t(uint64_t{args.rows} * args.groups), 1, 1, row_threads, 0};
}

struct rmsnorm_vector {
    const float* in;
    float* out;
};

SIMT_FN rmsnorm_vector rmsnorm_vector_at(const moira_rmsnorm_args& args, uint64_t index) {
    const uint64_t row = index / args.groups;
    const uint64_t shift = index % args.groups * args.group_stride;
    return {args.in + row * args.in_stride + shift, args.out + row * args.out_stride + shift};
}

SIMT_FN float rmsnorm_squares(const float* in, uint32_t width, uint32_t first, uint32_t step) {
    float sum = 0.0f;
    for (uint32_t column = first; column < width; column += step)
        sum += in[column] * in[column];
    return sum;
}

SIMT_FN void rmsnorm_write(const rmsnorm_vector& vector, const moira_rmsnorm_desc& desc, const float* weight, float sum,
                           uint32_t first, uint32_t step) {
    const float factor = 1.0f / sqrtf(sum / float(desc.width) + desc.epsilon);
    for (uint32_t column = first; column < desc.width; column += step)
        vector.out[column] = vector.in[column] * factor * weight[column];
}

SIMT_KERNEL(rmsnorm_block_warps * 32)
rmsnorm_warps(moira_rmsnorm_desc desc, moira_rmsnorm_args args, step_error_slot*) {
    const uint64_t index = uint64_t{blockIdx.x} * rmsnorm_block_warps + warp_of_thread();
    if (index >= uint64_t{args.rows} * args.groups)
        return;
    const rmsnorm_vector vector = rmsnorm_vector_at(args, index);
    const uint32_t lane = lane_of_thread();
    const float sum = warp_sum(rmsnorm_squares(vector.in, desc.width, lane, warp_lanes));
    rmsnorm_write(vector, desc, args.weight, sum, lane, warp_lanes);
}

SIMT_KERNEL(row_threads)
rmsnorm_blocks(moira_rmsnorm_desc desc, moira_rmsnorm_args args, step_error_slot*) {
    SIMT_SHARED(float, warp_sums, row_threads / warp_lanes);
    const rmsnorm_vector vector = rmsnorm_vector_at(args, blockIdx.x);
    const float sum = block_sum(rmsnorm_squares(vector.in, desc.width, threadIdx.x, blockDim.x), warp_sums);
    rmsnorm_write(vector, desc, args.weight, sum, threadIdx.x, blockDim.x);
}

} // namespace moira
