#include "core/plan/model_demands.hpp"

#include "core/base/checked.hpp"
#include "core/model/model_config.hpp"
#include "core/synthesize/synthetic_tensors.hpp"

#include <algorithm>

namespace moira {

namespace {

/// gate, up and down in E4M3 with an f32 scale per block.
std::uint64_t fp8_expert_bytes(const model_shape& shape) {
    const auto hidden = static_cast<std::uint64_t>(shape.hidden), inner = static_cast<std::uint64_t>(shape.moe.inner);
    const auto blocks = [](std::uint64_t count) { return round_up(count, 128) / 128; };
    return 3 * (hidden * inner + blocks(hidden) * blocks(inner) * sizeof(float));
}

void set_expert_bytes(model_demands& demands, std::uint64_t stored_bytes, bool fp8) {
    const auto narrow = fp8_expert_bytes(demands.shape);
    demands.fp8_helps = narrow < stored_bytes;
    demands.disk_bytes = stored_bytes;
    demands.slot_bytes = round_up(fp8 && demands.fp8_helps ? narrow : stored_bytes, slot_alignment);
}

/// What model_demands needs of a shape, also of families that this build cannot run.
model_shape shape_of(const synthetic_shape& wanted) {
    model_shape shape;
    shape.architecture = model_type_of(wanted.family);
    shape.vocabulary = wanted.vocabulary;
    shape.hidden = wanted.hidden;
    shape.layers = wanted.layers;
    shape.context_max = wanted.context_max;
    if (wanted.kv_rank > 0)
        shape.mla = mla_shape{.heads = wanted.heads,
                              .kv_rank = wanted.kv_rank,
                              .key_dim = wanted.head_dim,
                              .rope_dim = wanted.rope_dim,
                              .value_dim = wanted.head_dim};
    else
        shape.gqa = gqa_shape{.heads = wanted.heads, .kv_heads = wanted.kv_heads, .head_dim = wanted.head_dim};
    shape.dense_inner = wanted.dense_inner;
    shape.moe.experts = wanted.experts;
    shape.moe.top_k = wanted.top_k;
    shape.moe.inner = wanted.expert_inner;
    shape.moe.shared_inner = wanted.shared_experts * wanted.expert_inner;
    shape.layer_is_moe.resize(static_cast<std::size_t>(wanted.layers));
    for (std::int32_t layer = 0; layer < wanted.layers; ++layer)
        shape.layer_is_moe[static_cast<std::size_t>(layer)] = layer >= wanted.dense_layers;
    return shape;
}

bool is_routed_expert(std::string_view name) {
    return name.find(".mlp.experts.") != std::string_view::npos;
}

} // namespace

std::uint64_t model_demands::experts_all() const {
    return static_cast<std::uint64_t>(shape.moe_layers()) * static_cast<std::uint64_t>(shape.moe.experts);
}

std::uint64_t model_demands::experts_per_token() const {
    return static_cast<std::uint64_t>(shape.moe_layers()) * static_cast<std::uint64_t>(shape.moe.top_k);
}

std::uint64_t model_demands::kv_token_bytes() const {
    return static_cast<std::uint64_t>(shape.layers) * static_cast<std::uint64_t>(shape.kv_width()) * kv_value_bytes;
}

model_demands demands_of(const checkpoint& model, bool fp8) {
    const auto summary = summarize(model);
    model_demands demands;
    demands.shape = model.shape();
    demands.dense_bytes = summary.bytes_dense;
    demands.refusal = summary.refusal;
    const bool may_round = !model.expert_layout(); // packed experts are not rounded while loading
    set_expert_bytes(demands, summary.bytes_per_expert, fp8 && may_round);
    demands.fp8_helps = demands.fp8_helps && may_round;
    const auto chosen = demands.experts_per_token() * summary.bytes_per_expert;
    demands.dense_token_bytes = summary.bytes_active_per_token - std::min(summary.bytes_active_per_token, chosen);
    return demands;
}

result<model_demands> demands_of(const synthetic_shape& shape, bool stored_fp8, bool fp8) {
    if (shape.layers < 1 || shape.layers > layers_range.most || shape.context_max < 1 ||
        shape.context_max > context_range.most)
        return fail(errc::invalid_argument, "found " + std::to_string(shape.layers) + " layers and a context of " +
                                                std::to_string(shape.context_max) + ": expected 1 to " +
                                                std::to_string(layers_range.most) + " and 1 to " +
                                                std::to_string(context_range.most));
    model_demands demands;
    demands.shape = shape_of(shape);
    std::uint64_t routed_bytes = 0, embedding_bytes = 0;
    for (const auto& tensor : synthetic_tensors(shape, stored_fp8)) {
        (is_routed_expert(tensor.name) ? routed_bytes : demands.dense_bytes) += tensor.bytes();
        if (tensor.name == "model.embed_tokens.weight")
            embedding_bytes = tensor.bytes();
    }
    demands.dense_token_bytes =
        demands.dense_bytes - embedding_bytes + embedding_bytes / static_cast<std::uint64_t>(shape.vocabulary);
    if (demands.experts_all() > 0)
        set_expert_bytes(demands, routed_bytes / demands.experts_all(), fp8);
    if (const auto known = read_model_config(synthetic_config_json(shape, stored_fp8, 0),
                                             synthetic_generation_config_json(shape), shape.name);
        !known)
        demands.refusal = known.error().message;
    return demands;
}

} // namespace moira
