#include "kernels/op_plan.hpp"
#include "kernels/reference/reference_kernels.hpp"

#include <cmath>
#include <limits>

namespace moira {

namespace {

// Whether an expert can still be chosen.
constexpr float state_open = 0.0f;
constexpr float state_other_group = 1.0f; // only when the kept groups hold fewer than top_k
constexpr float state_taken = 2.0f;

// Keeps 0 / 0 away when every chosen sigmoid is 0; far below any other sum (DeepSeek-V3 adds the same).
constexpr float normalize_epsilon = 1e-20f;

void softmax(const float* logits, uint32_t count, float* scores) {
    float maximum = -std::numeric_limits<float>::infinity();
    for (uint32_t i = 0; i < count; ++i)
        maximum = logits[i] > maximum ? logits[i] : maximum;
    float sum = 0.0f;
    for (uint32_t i = 0; i < count; ++i) {
        scores[i] = std::exp(logits[i] - maximum);
        sum += scores[i];
    }
    for (uint32_t i = 0; i < count; ++i)
        scores[i] /= sum;
}

void score(const moira_router_topk_desc& desc, const float* logits, float* scores) {
    if (desc.scoring == MOIRA_SCORE_SOFTMAX)
        return softmax(logits, desc.experts, scores);
    for (uint32_t i = 0; i < desc.experts; ++i) {
        if (desc.scoring == MOIRA_SCORE_SIGMOID)
            scores[i] = 1.0f / (1.0f + std::exp(-logits[i]));
        else // sqrt(log(1 + e^x)), written so that e^x cannot overflow
            scores[i] = std::sqrt((logits[i] > 0.0f ? logits[i] : 0.0f) + std::log1p(std::exp(-std::fabs(logits[i]))));
    }
}

// Index of the largest choice in the wanted state, the lowest index among equals; count when there is none.
uint32_t best_of(const float* choices, const float* states, uint32_t count, float state) {
    uint32_t best = count;
    for (uint32_t i = 0; i < count; ++i)
        if (states[i] == state && (best == count || choices[i] > choices[best]))
            best = i;
    return best;
}

float two_best_sum(const float* choices, uint32_t count) {
    float first = -std::numeric_limits<float>::infinity();
    float second = first;
    for (uint32_t i = 0; i < count; ++i) {
        if (choices[i] > first) {
            second = first;
            first = choices[i];
        } else if (choices[i] > second) {
            second = choices[i];
        }
    }
    return count == 1 ? first : first + second;
}

void close_other_groups(const moira_router_topk_desc& desc, const float* choices, float* states, float* group_scores) {
    const uint32_t members = desc.experts / desc.groups;
    for (uint32_t group = 0; group < desc.groups; ++group)
        group_scores[group] = two_best_sum(choices + uint64_t{group} * members, members);
    for (uint32_t i = 0; i < desc.experts; ++i)
        states[i] = state_other_group;
    for (uint32_t kept = 0; kept < desc.groups_kept; ++kept) {
        uint32_t best = desc.groups;
        for (uint32_t group = 0; group < desc.groups; ++group)
            if (states[uint64_t{group} * members] == state_other_group &&
                (best == desc.groups || group_scores[group] > group_scores[best]))
                best = group;
        for (uint32_t i = best * members; i < (best + 1) * members; ++i)
            states[i] = state_open;
    }
}

void weigh(const moira_router_topk_desc& desc, const float* scores, const int32_t* ids, float* weights) {
    float sum = 0.0f;
    for (uint32_t rank = 0; rank < desc.top_k; ++rank) {
        weights[rank] = scores[ids[rank]];
        sum += weights[rank];
    }
    for (uint32_t rank = 0; rank < desc.top_k; ++rank) {
        if (desc.normalize)
            weights[rank] /= desc.scoring == MOIRA_SCORE_SOFTMAX ? sum : sum + normalize_epsilon;
        weights[rank] *= desc.scale;
    }
}

} // namespace

void reference_router_topk(const moira_router_topk_desc& desc, const moira_router_topk_args& args,
                           const work_share& share) {
    float scores[router_experts_max];
    float choices[router_experts_max];
    float states[router_experts_max];
    float group_scores[router_experts_max];
    for (uint64_t row = share.begin; row < share.end; ++row) {
        score(desc, args.logits + row * args.logits_stride, scores);
        for (uint32_t i = 0; i < desc.experts; ++i) {
            const float choice = desc.has_bias ? scores[i] + args.bias[i] : scores[i];
            // NaN would make the order depend on where it stands; it comes last instead.
            choices[i] = std::isnan(choice) ? -std::numeric_limits<float>::infinity() : choice;
            states[i] = state_open;
        }
        if (desc.groups > 1)
            close_other_groups(desc, choices, states, group_scores);
        int32_t* ids = args.ids + row * desc.top_k;
        for (uint32_t rank = 0; rank < desc.top_k; ++rank) {
            uint32_t best = best_of(choices, states, desc.experts, state_open);
            if (best == desc.experts)
                best = best_of(choices, states, desc.experts, state_other_group);
            states[best] = state_taken;
            ids[rank] = int32_t(best);
        }
        weigh(desc, scores, ids, args.weights + row * desc.top_k);
    }
}

} // namespace moira
