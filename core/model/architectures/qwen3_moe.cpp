// Qwen3-MoE (Qwen team 2025): grouped-query attention with normalised queries and keys, a softmax router, no shared
// experts.
#include "core/model/architectures/architecture.hpp"
#include "core/model/model_config.hpp"

#include <algorithm>

namespace moira {

namespace {

void read_attention(config_reader& config, model_shape& shape) {
    gqa_shape gqa;
    gqa.heads = config.integer({"num_attention_heads"}, heads_range);
    gqa.kv_heads = config.integer({"num_key_value_heads"}, heads_range, gqa.heads);
    gqa.head_dim = config.integer({"head_dim"}, head_dim_range, shape.hidden / gqa.heads);
    gqa.query_key_norm = true;
    gqa.bias = gqa.output_bias = config.flag({"attention_bias"}, false);
    const auto window = config.integer({"sliding_window"}, {0, context_range.most}, 0);
    gqa.window = config.flag({"use_sliding_window"}, false) ? window : 0;
    shape.gqa = gqa;
    shape.rope = read_rope(config, gqa.head_dim, false, shape.context_max);
}

void read_experts(config_reader& config, model_shape& shape) {
    auto& moe = shape.moe;
    moe.experts = config.integer({"num_experts", "num_local_experts"}, experts_range);
    moe.top_k = config.integer({"num_experts_per_tok"}, experts_range);
    moe.inner = config.integer({"moe_intermediate_size"}, inner_range);
    moe.scoring = router_scoring::softmax;
    moe.normalize = config.flag({"norm_topk_prob"}, false);
}

void read_config(config_reader& config, model_shape& shape) {
    read_common_dimensions(config, shape);
    read_attention(config, shape);
    read_experts(config, shape);
    const auto every = config.integer({"decoder_sparse_step"}, layers_range, 1);
    const auto dense = config.integers({"mlp_only_layers"}, {0, layers_range.most}, layers_range.most);
    for (std::int32_t layer = 0; layer < shape.layers; ++layer)
        shape.layer_is_moe.push_back((layer + 1) % every == 0 &&
                                     std::find(dense.begin(), dense.end(), layer) == dense.end());
    shape.dense_inner = config.integer({"intermediate_size"}, inner_range, 0);
}

void attention_weights(const model_shape& shape, const std::string& prefix, attention_weight_names& names,
                       weight_list& weights) {
    weights.add_gqa(names, prefix, shape);
    weights.add(names.q_norm, prefix + "q_norm.weight", {shape.gqa->head_dim});
    weights.add(names.k_norm, prefix + "k_norm.weight", {shape.gqa->head_dim});
}

void layer_weights(const model_shape& shape, std::int32_t layer, layer_weight_names& names, weight_list& weights) {
    const auto prefix = "model.layers." + std::to_string(layer) + ".";
    weights.add(names.input_norm, prefix + "input_layernorm.weight", {shape.hidden});
    weights.add(names.post_attention_norm, prefix + "post_attention_layernorm.weight", {shape.hidden});
    attention_weights(shape, prefix + "self_attn.", names.attention, weights);
    if (shape.layer_is_moe[static_cast<std::size_t>(layer)])
        weights.add_experts(names, prefix + "mlp.", shape);
    else
        weights.add_ffn(names.dense, prefix + "mlp.", shape.hidden, shape.dense_inner);
}

void outer_weights(const model_shape& shape, model_weight_names& names, weight_list& weights) {
    weights.add_outer(names, shape);
}

} // namespace

extern const architecture qwen3_moe_architecture;
const architecture qwen3_moe_architecture{"qwen3_moe", read_config, outer_weights, layer_weights, nullptr};

} // namespace moira
