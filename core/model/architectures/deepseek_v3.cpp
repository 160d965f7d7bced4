// DeepSeek-V3 (DeepSeek-AI 2024): multi-head latent attention, a sigmoid router with a correction bias and
// group-limited choice, shared experts, leading dense layers, optional multi-token-prediction modules.
#include "core/model/architectures/architecture.hpp"
#include "core/model/model_config.hpp"

namespace moira {

namespace {

// Values for absent keys are those of transformers' DeepseekV3Config, except that sizes are never guessed.

void read_attention(config_reader& config, model_shape& shape) {
    mla_shape mla;
    mla.heads = config.integer({"num_attention_heads"}, heads_range);
    mla.query_rank = config.integer({"q_lora_rank"}, {0, rank_range.most}, 0);
    mla.kv_rank = config.integer({"kv_lora_rank"}, rank_range);
    mla.key_dim = config.integer({"qk_nope_head_dim"}, head_dim_range);
    mla.rope_dim = config.integer({"qk_rope_head_dim"}, head_dim_range);
    mla.value_dim = config.integer({"v_head_dim"}, head_dim_range);
    mla.bias = config.flag({"attention_bias"}, false);
    shape.mla = mla;
    shape.rope = read_rope(config, mla.rope_dim, config.flag({"rope_interleave"}, true), shape.context_max);
}

void read_experts(config_reader& config, model_shape& shape) {
    auto& moe = shape.moe;
    moe.experts = config.integer({"n_routed_experts", "num_local_experts", "num_experts"}, experts_range);
    moe.top_k = config.integer({"num_experts_per_tok"}, experts_range);
    moe.inner = config.integer({"moe_intermediate_size"}, inner_range);
    const auto shared = config.integer({"n_shared_experts", "num_shared_experts"}, shared_experts_range, 1);
    moe.shared_inner = shared * moe.inner;
    moe.scoring = router_scoring::sigmoid;
    moe.choice_bias = true;
    moe.groups = config.integer({"n_group"}, experts_range, 8);
    moe.groups_kept = config.integer({"topk_group"}, experts_range, 4);
    moe.normalize = config.flag({"norm_topk_prob"}, true);
    moe.scale = config.number({"routed_scaling_factor"}, expert_scale_range, 2.5);
    config.require_text({"scoring_func"}, "sigmoid");
    config.require_text({"topk_method"}, "noaux_tc");
}

void read_config(config_reader& config, model_shape& shape) {
    read_common_dimensions(config, shape);
    read_attention(config, shape);
    read_experts(config, shape);
    shape.dense_inner = config.integer({"intermediate_size"}, inner_range);
    shape.mtp_layers = config.integer({"num_nextn_predict_layers"}, mtp_layers_range, 0);
    const auto first_moe_layer = config.integer({"first_k_dense_replace"}, {0, layers_range.most}, 3);
    const auto every = config.integer({"moe_layer_freq"}, layers_range, 1);
    for (std::int32_t layer = 0; layer < shape.layers; ++layer)
        shape.layer_is_moe.push_back(layer >= first_moe_layer && layer % every == 0);
}

void attention_weights(const model_shape& shape, const std::string& prefix, attention_weight_names& names,
                       weight_list& weights) {
    const auto& mla = *shape.mla;
    const std::int64_t latent = mla.kv_rank + mla.rope_dim;
    if (mla.query_rank == 0) {
        weights.add(names.q, prefix + "q_proj.weight", {shape.query_width(), shape.hidden});
    } else {
        weights.add(names.q_a, prefix + "q_a_proj.weight", {mla.query_rank, shape.hidden});
        weights.add(names.q_a_norm, prefix + "q_a_layernorm.weight", {mla.query_rank});
        weights.add(names.q_b, prefix + "q_b_proj.weight", {shape.query_width(), mla.query_rank});
        if (mla.bias)
            weights.add(names.q_a_bias, prefix + "q_a_proj.bias", {mla.query_rank});
    }
    weights.add(names.kv_a, prefix + "kv_a_proj_with_mqa.weight", {latent, shape.hidden});
    weights.add(names.kv_a_norm, prefix + "kv_a_layernorm.weight", {mla.kv_rank});
    weights.add(names.kv_b, prefix + "kv_b_proj.weight", {mla.heads * (mla.key_dim + mla.value_dim), mla.kv_rank});
    weights.add(names.o, prefix + "o_proj.weight", {shape.hidden, shape.attention_width()});
    if (mla.bias) {
        weights.add(names.kv_a_bias, prefix + "kv_a_proj_with_mqa.bias", {latent});
        weights.add(names.o_bias, prefix + "o_proj.bias", {shape.hidden});
    }
}

void expert_weights(const model_shape& shape, const std::string& prefix, layer_weight_names& names,
                    weight_list& weights) {
    weights.add_experts(names, prefix, shape);
    weights.add(names.router_bias, prefix + "gate.e_score_correction_bias", {shape.moe.experts});
    if (shape.moe.shared_inner > 0)
        weights.add_ffn(names.shared, prefix + "shared_experts.", shape.hidden, shape.moe.shared_inner);
}

std::string layer_prefix(std::int32_t layer) {
    return "model.layers." + std::to_string(layer) + ".";
}

void block_weights(const model_shape& shape, std::int32_t layer, bool is_moe, layer_weight_names& names,
                   weight_list& weights) {
    const auto prefix = layer_prefix(layer);
    weights.add(names.input_norm, prefix + "input_layernorm.weight", {shape.hidden});
    weights.add(names.post_attention_norm, prefix + "post_attention_layernorm.weight", {shape.hidden});
    attention_weights(shape, prefix + "self_attn.", names.attention, weights);
    if (is_moe)
        expert_weights(shape, prefix + "mlp.", names, weights);
    else
        weights.add_ffn(names.dense, prefix + "mlp.", shape.hidden, shape.dense_inner);
}

void layer_weights(const model_shape& shape, std::int32_t layer, layer_weight_names& names, weight_list& weights) {
    block_weights(shape, layer, shape.layer_is_moe[static_cast<std::size_t>(layer)], names, weights);
}

void outer_weights(const model_shape& shape, model_weight_names& names, weight_list& weights) {
    weights.add_outer(names, shape);
}

/// Modules are stored behind the last layer: two norms, a projection of both inputs, a block with experts, a last norm.
void mtp_weights(const model_shape& shape, std::int32_t module, mtp_weight_names& names, layer_weight_names& block,
                 weight_list& weights) {
    const auto layer = shape.layers + module;
    const auto prefix = layer_prefix(layer);
    weights.add(names.embedding_norm, prefix + "enorm.weight", {shape.hidden});
    weights.add(names.hidden_norm, prefix + "hnorm.weight", {shape.hidden});
    weights.add(names.projection, prefix + "eh_proj.weight", {shape.hidden, 2 * std::int64_t{shape.hidden}});
    weights.add(names.head_norm, prefix + "shared_head.norm.weight", {shape.hidden});
    block_weights(shape, layer, true, block, weights);
}

} // namespace

extern const architecture deepseek_v3_architecture;
const architecture deepseek_v3_architecture{"deepseek_v3", read_config, outer_weights, layer_weights, mtp_weights};

} // namespace moira
