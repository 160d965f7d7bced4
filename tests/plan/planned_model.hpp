#pragma once

#include "core/plan/budget_plan.hpp"

namespace moira {

/// Round numbers: 4 layers of 8 experts, top 2, slots of 1 MiB, 10 MiB dense, 1 KiB of KV per token.
inline model_demands round_model() {
    model_demands model;
    model.shape.layers = 4;
    model.shape.hidden = 64;
    model.shape.vocabulary = 1000;
    model.shape.context_max = 4096;
    model.shape.gqa = gqa_shape{.heads = 4, .kv_heads = 2, .head_dim = 16};
    model.shape.moe.experts = 8;
    model.shape.moe.top_k = 2;
    model.shape.layer_is_moe.assign(4, true);
    model.dense_bytes = std::uint64_t{10} << 20;
    model.dense_token_bytes = std::uint64_t{8} << 20;
    model.slot_bytes = model.disk_bytes = std::uint64_t{1} << 20;
    return model;
}

inline plan_wish small_wish() {
    plan_wish wish;
    wish.context = 1024;
    wish.sequences = 1;
    wish.step_rows = 16;
    return wish;
}

} // namespace moira
