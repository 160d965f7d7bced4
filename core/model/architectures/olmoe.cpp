// OLMoE (Muennighoff et al. 2024): multi-head attention whose queries and keys are normalised over all heads of a row,
// a softmax router without renormalisation, experts in every layer, none of them shared.
#include "core/model/architectures/architecture.hpp"
#include "core/model/model_config.hpp"

namespace moira {

namespace {

void read_attention(config_reader& config, model_shape& shape) {
    gqa_shape gqa;
    gqa.heads = config.integer({"num_attention_heads"}, heads_range);
    gqa.kv_heads = config.integer({"num_key_value_heads"}, heads_range, gqa.heads);
    gqa.head_dim = config.integer({"head_dim"}, head_dim_range, shape.hidden / gqa.heads);
    gqa.query_key_norm = gqa.row_norm = true;
    gqa.bias = gqa.output_bias = config.flag({"attention_bias"}, false);
    if (config.has({"clip_qkv"}))
        config.refuse(errc::unsupported, "clip_qkv is set; this build does not clip queries, keys and values");
    shape.gqa = gqa;
    shape.rope = read_rope(config, gqa.head_dim, false, shape.context_max);
}

void read_experts(config_reader& config, model_shape& shape) {
    auto& moe = shape.moe;
    moe.experts = config.integer({"num_experts", "num_local_experts"}, experts_range);
    moe.top_k = config.integer({"num_experts_per_tok"}, experts_range);
    moe.inner = config.integer({"intermediate_size"}, inner_range);
    moe.scoring = router_scoring::softmax;
    moe.normalize = config.flag({"norm_topk_prob"}, false);
}

void read_config(config_reader& config, model_shape& shape) {
    read_common_dimensions(config, shape);
    read_attention(config, shape);
    read_experts(config, shape);
    shape.layer_is_moe.assign(static_cast<std::size_t>(shape.layers), true);
}

void attention_weights(const model_shape& shape, const std::string& prefix, attention_weight_names& names,
                       weight_list& weights) {
    weights.add_gqa(names, prefix, shape);
    weights.add(names.q_norm, prefix + "q_norm.weight", {shape.query_width()});
    weights.add(names.k_norm, prefix + "k_norm.weight", {std::int64_t{shape.gqa->kv_heads} * shape.gqa->head_dim});
}

void layer_weights(const model_shape& shape, std::int32_t layer, layer_weight_names& names, weight_list& weights) {
    const auto prefix = "model.layers." + std::to_string(layer) + ".";
    weights.add(names.input_norm, prefix + "input_layernorm.weight", {shape.hidden});
    weights.add(names.post_attention_norm, prefix + "post_attention_layernorm.weight", {shape.hidden});
    attention_weights(shape, prefix + "self_attn.", names.attention, weights);
    weights.add_experts(names, prefix + "mlp.", shape);
}

void outer_weights(const model_shape& shape, model_weight_names& names, weight_list& weights) {
    weights.add_outer(names, shape);
}

} // namespace

extern const architecture olmoe_architecture;
const architecture olmoe_architecture{"olmoe", read_config, outer_weights, layer_weights, nullptr};

} // namespace moira
