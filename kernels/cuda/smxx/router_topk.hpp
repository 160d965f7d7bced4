// Expert choice of one row by one warp: scores, groups, top-k, weights. Ids are the reference's wherever no two choices
// are closer than the exponentials' error. Bytes per row: 4 x experts read, 8 x top_k written.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/simt.hpp"
#include "kernels/cuda/smxx/limits.hpp"
#include "plugins/moira_plugin.h"

namespace moira {

constexpr uint32_t router_warps_max = 4;

// As in the reference: keeps 0 / 0 away when every chosen sigmoid is 0.
constexpr float router_normalize_epsilon = 1e-20f;

// Shared words of one warp: scores, choices and states of experts, scores and states of groups.
SIMT_PURE uint32_t router_words(const moira_router_topk_desc& desc) {
    return 3 * desc.experts + (desc.groups > 1 ? 2 * desc.groups : 0);
}

inline launch_shape router_topk_shape(const moira_router_topk_desc& desc, const moira_router_topk_args& args) {
    const uint32_t warp_bytes = router_words(desc) * 4; // at most 20 KiB for 1,024 experts
    const uint32_t fitting = shared_bytes_plain / warp_bytes;
    const uint32_t warps = fitting < router_warps_max ? fitting : router_warps_max;
    return {(args.rows + warps - 1) / warps, 1, 1, warps * warp_lanes, warps * warp_bytes};
}

enum : uint32_t { router_open = 0, router_other_group = 1, router_taken = 2 };

constexpr uint32_t router_nobody = 0xFFFFFFFFu;

// One candidate; the lower state wins, then the larger choice, then the lower index.
struct router_candidate {
    uint32_t state;
    float choice;
    uint32_t index;
};

SIMT_FN bool router_better(const router_candidate& a, const router_candidate& b) {
    if (a.state != b.state)
        return a.state < b.state;
    if (a.choice != b.choice)
        return a.choice > b.choice;
    return a.index < b.index;
}

// The best of the first `count`, the same in every lane.
SIMT_FN uint32_t router_best(const float* choices, const uint32_t* states, uint32_t count) {
    router_candidate best{router_taken, 0.0f, router_nobody};
    for (uint32_t i = lane_of_thread(); i < count; i += warp_lanes) {
        const router_candidate own{states[i], choices[i], i};
        if (own.state != router_taken && router_better(own, best))
            best = own;
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        const router_candidate other{__shfl_xor_sync(warp_full, best.state, distance),
                                     __shfl_xor_sync(warp_full, best.choice, distance),
                                     __shfl_xor_sync(warp_full, best.index, distance)};
        if (router_better(other, best))
            best = other;
    }
    return best.index;
}

SIMT_FN float router_score(float logit, uint32_t scoring) {
    if (scoring == MOIRA_SCORE_SIGMOID)
        return 1.0f / (1.0f + expf(-logit));
    // sqrt(log(1 + e^x)), written so that e^x cannot overflow
    return sqrtf((logit > 0.0f ? logit : 0.0f) + log1pf(expf(-fabsf(logit))));
}

SIMT_FN void router_softmax(const float* logits, uint32_t count, float* scores) {
    float maximum = -INFINITY;
    for (uint32_t i = lane_of_thread(); i < count; i += warp_lanes)
        maximum = logits[i] > maximum ? logits[i] : maximum;
    maximum = warp_max(maximum);
    float sum = 0.0f;
    for (uint32_t i = lane_of_thread(); i < count; i += warp_lanes) {
        scores[i] = expf(logits[i] - maximum);
        sum += scores[i];
    }
    sum = warp_sum(sum);
    for (uint32_t i = lane_of_thread(); i < count; i += warp_lanes)
        scores[i] /= sum;
}

SIMT_FN float router_group_score(const float* choices, uint32_t members) {
    float first = -INFINITY;
    float second = -INFINITY;
    for (uint32_t i = 0; i < members; ++i) {
        if (choices[i] > first) {
            second = first;
            first = choices[i];
        } else if (choices[i] > second) {
            second = choices[i];
        }
    }
    return members == 1 ? first : first + second;
}

// Leaves only the experts of the best groups open.
SIMT_FN void router_close_groups(const moira_router_topk_desc& desc, const float* choices, uint32_t* states,
                                 float* group_scores, uint32_t* group_states) {
    const uint32_t members = desc.experts / desc.groups;
    for (uint32_t group = lane_of_thread(); group < desc.groups; group += warp_lanes) {
        group_scores[group] = router_group_score(choices + group * members, members);
        group_states[group] = router_open;
    } // every lane looks at its own groups again
    for (uint32_t kept = 0; kept < desc.groups_kept; ++kept) {
        const uint32_t best = router_best(group_scores, group_states, desc.groups);
        __syncwarp();
        if (lane_of_thread() == 0)
            group_states[best] = router_taken;
        __syncwarp();
    }
    for (uint32_t i = lane_of_thread(); i < desc.experts; i += warp_lanes)
        states[i] = group_states[i / members] == router_taken ? router_open : router_other_group;
}

// By one lane: a handful of values, in the reference's order.
SIMT_FN void router_weigh(const moira_router_topk_desc& desc, const float* scores, const int32_t* ids, float* weights) {
    float sum = 0.0f;
    for (uint32_t rank = 0; rank < desc.top_k; ++rank)
        sum += scores[ids[rank]];
    const float divisor = desc.scoring == MOIRA_SCORE_SOFTMAX ? sum : sum + router_normalize_epsilon;
    for (uint32_t rank = 0; rank < desc.top_k; ++rank) {
        const float score = scores[ids[rank]];
        weights[rank] = (desc.normalize ? score / divisor : score) * desc.scale;
    }
}

SIMT_KERNEL(router_warps_max* warp_lanes)
router_topk_rows(moira_router_topk_desc desc, moira_router_topk_args args, step_error_slot*) {
    SIMT_SHARED_DYNAMIC(float, shared);
    const uint64_t row = uint64_t{blockIdx.x} * (blockDim.x / warp_lanes) + warp_of_thread();
    if (row >= args.rows)
        return;
    const uint32_t lane = lane_of_thread();
    float* scores = shared + warp_of_thread() * router_words(desc);
    float* choices = scores + desc.experts;
    auto* states = reinterpret_cast<uint32_t*>(choices + desc.experts);
    auto* group_scores = reinterpret_cast<float*>(states + desc.experts);
    auto* group_states = reinterpret_cast<uint32_t*>(group_scores + desc.groups);
    const float* logits = args.logits + row * args.logits_stride;
    if (desc.scoring == MOIRA_SCORE_SOFTMAX)
        router_softmax(logits, desc.experts, scores);
    for (uint32_t i = lane; i < desc.experts; i += warp_lanes) {
        if (desc.scoring != MOIRA_SCORE_SOFTMAX)
            scores[i] = router_score(logits[i], desc.scoring);
        const float choice = desc.has_bias ? scores[i] + args.bias[i] : scores[i];
        choices[i] = choice != choice ? -INFINITY : choice; // NaN comes last
        states[i] = router_open;
    }
    __syncwarp();
    if (desc.groups > 1)
        router_close_groups(desc, choices, states, group_scores, group_states);
    int32_t* ids = args.ids + row * desc.top_k;
    for (uint32_t rank = 0; rank < desc.top_k; ++rank) {
        const uint32_t best = router_best(choices, states, desc.experts);
        __syncwarp();
        if (lane == 0) {
            states[best] = router_taken;
            ids[rank] = int32_t(best);
        }
        __syncwarp();
    }
    if (lane == 0)
        router_weigh(desc, scores, ids, args.weights + row * desc.top_k);
}

} // namespace moira
