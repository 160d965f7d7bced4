// Groups (token, rank) pairs by expert on the device, for the grouped expert FFN: pairs of one expert in rising order
// of row, then rank, whatever order the blocks ran in. One warp per expert reads all ids twice.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/simt.hpp"
#include "plugins/moira_plugin.h"

namespace moira {

inline launch_shape permute_shape(const moira_expert_groups_desc& desc) {
    return {desc.experts, 1, 1, 32, 0};
}

// args.workspace: the pairs of each expert, between the two kernels.
inline uint64_t permute_workspace_bytes(const moira_expert_groups_desc& desc) {
    return uint64_t{desc.experts} * sizeof(uint32_t);
}

SIMT_KERNEL(32)
permute_count(moira_expert_groups_desc desc, moira_expert_groups_args args, step_error_slot* error) {
    const int32_t expert = int32_t(blockIdx.x);
    const uint32_t pairs = args.rows * desc.top_k;
    uint32_t count = 0;
    for (uint32_t pair = lane_of_thread(); pair < pairs; pair += warp_lanes) {
        const int32_t id = args.ids[pair];
        count += id == expert ? 1 : 0;
        if (expert == 0 && id >= int32_t(desc.experts))
            report_step_error(error, MOIRA_ERROR_EXPERT_EMPTY, pair / desc.top_k, id);
    }
    for (int distance = 16; distance > 0; distance /= 2)
        count += __shfl_xor_sync(warp_full, count, distance);
    if (lane_of_thread() == 0)
        static_cast<uint32_t*>(args.workspace)[blockIdx.x] = count;
}

// What lies before an expert: pairs, and experts that have any.
struct permute_place_before {
    uint32_t pairs;
    uint32_t groups;
};

SIMT_FN permute_place_before sum_before(const uint32_t* counts, uint32_t expert) {
    permute_place_before before{0, 0};
    for (uint32_t other = lane_of_thread(); other < expert; other += warp_lanes) {
        before.pairs += counts[other];
        before.groups += counts[other] != 0 ? 1 : 0;
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        before.pairs += __shfl_xor_sync(warp_full, before.pairs, distance);
        before.groups += __shfl_xor_sync(warp_full, before.groups, distance);
    }
    return before;
}

SIMT_KERNEL(32) permute_place(moira_expert_groups_desc desc, moira_expert_groups_args args) {
    const uint32_t expert = blockIdx.x;
    const uint32_t lane = lane_of_thread();
    const uint32_t pairs = args.rows * desc.top_k;
    const auto* counts = static_cast<const uint32_t*>(args.workspace);
    const permute_place_before before = sum_before(counts, expert);
    const uint32_t count = counts[expert];
    if (lane == 0 && count != 0)
        args.group_table[before.groups] = {expert, args.generations[uint64_t{expert} * args.generation_stride],
                                           before.pairs, count};
    const bool last = expert + 1 == desc.experts;
    if (lane == 0 && last)
        *args.group_count = before.groups + (count != 0 ? 1 : 0);
    if (last) // what has no pair
        for (uint32_t pair = before.pairs + count + lane; pair < pairs; pair += warp_lanes)
            args.pair_table[pair] = {-1, -1};
    uint32_t begin = before.pairs;
    for (uint32_t base = 0; base < pairs; base += warp_lanes) {
        const uint32_t pair = base + lane;
        const bool mine = pair < pairs && args.ids[pair] == int32_t(expert);
        const uint32_t votes = __ballot_sync(warp_full, mine);
        if (mine) {
            uint32_t lower = 0; // lanes below that found one
            for (uint32_t bits = votes & ((1u << lane) - 1u); bits != 0; bits &= bits - 1)
                ++lower;
            args.pair_table[begin + lower] = {int32_t(pair / desc.top_k), int32_t(pair)};
        }
        for (uint32_t bits = votes; bits != 0; bits &= bits - 1)
            ++begin;
    }
}

} // namespace moira
