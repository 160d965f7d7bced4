// Groups (token, rank) pairs by expert on the device, for the grouped expert FFN: pairs of one expert in rising order
// of row, then rank, whatever order the blocks ran in. One warp per expert reads all ids twice.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/simt.hpp"
#include "plugins/moira_plugin.h"

namespace moira {

struct permute_args {
    uint32_t pairs; // rows * top_k
    uint32_t top_k;
    uint32_t experts;
    const int32_t* ids;          // [rows, top_k], as router_topk wrote them; others than 0 .. experts - 1 are left out
    const uint32_t* generations; // [experts]: expected of each expert's entry
    uint32_t* counts;            // [experts]: between the two kernels
    moira_expert_group* groups;  // [experts], empty ones included
    moira_expert_pair* out;      // [pairs]: {row, row * top_k + rank}
};

inline launch_shape permute_shape(const permute_args& args) {
    return {args.experts, 1, 1, 32, 0};
}

SIMT_KERNEL(32) permute_count(permute_args args) {
    const int32_t expert = int32_t(blockIdx.x);
    uint32_t count = 0;
    for (uint32_t pair = lane_of_thread(); pair < args.pairs; pair += warp_lanes)
        count += args.ids[pair] == expert ? 1 : 0;
    for (int distance = 16; distance > 0; distance /= 2)
        count += __shfl_xor_sync(warp_full, count, distance);
    if (lane_of_thread() == 0)
        args.counts[blockIdx.x] = count;
}

SIMT_KERNEL(32) permute_place(permute_args args) {
    const uint32_t expert = blockIdx.x;
    const uint32_t lane = lane_of_thread();
    uint32_t begin = 0;
    for (uint32_t other = lane; other < expert; other += warp_lanes)
        begin += args.counts[other];
    for (int distance = 16; distance > 0; distance /= 2)
        begin += __shfl_xor_sync(warp_full, begin, distance);
    if (lane == 0)
        args.groups[expert] = {expert, args.generations[expert], begin, args.counts[expert]};
    for (uint32_t base = 0; base < args.pairs; base += warp_lanes) {
        const uint32_t pair = base + lane;
        const bool mine = pair < args.pairs && args.ids[pair] == int32_t(expert);
        const uint32_t votes = __ballot_sync(warp_full, mine);
        if (mine) {
            uint32_t before = 0; // lanes below that found one
            for (uint32_t bits = votes & ((1u << lane) - 1u); bits != 0; bits &= bits - 1)
                ++before;
            args.out[begin + before] = {int32_t(pair / args.top_k), int32_t(pair)};
        }
        for (uint32_t bits = votes; bits != 0; bits &= bits - 1)
            ++begin;
    }
}

} // namespace moira
