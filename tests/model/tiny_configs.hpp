#pragma once

#include <nlohmann/json.hpp>

namespace moira {

/// The smallest DeepSeek-V3 with every part: one dense layer, one with 4 experts in 2 groups, low-rank queries.
inline nlohmann::json tiny_deepseek() {
    return nlohmann::json::parse(R"({
        "model_type": "deepseek_v3", "hidden_act": "silu", "vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "num_attention_heads": 2, "q_lora_rank": 6,
        "kv_lora_rank": 4, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 3, "intermediate_size": 12,
        "moe_intermediate_size": 5, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 2,
        "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "norm_topk_prob": true,
        "routed_scaling_factor": 2.5, "rope_theta": 10000, "bos_token_id": 0, "eos_token_id": 1})");
}

/// The smallest Qwen3-MoE: two layers of 4 experts, heads wider than hidden / heads.
inline nlohmann::json tiny_qwen() {
    return nlohmann::json::parse(R"({
        "model_type": "qwen3_moe", "hidden_act": "silu", "vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 6, "intermediate_size": 12, "moe_intermediate_size": 5, "num_experts": 4,
        "num_experts_per_tok": 2, "decoder_sparse_step": 1, "mlp_only_layers": [], "rope_theta": 10000})");
}

/// The smallest OLMoE: one layer of 4 experts.
inline nlohmann::json tiny_olmoe() {
    return nlohmann::json::parse(R"({
        "model_type": "olmoe", "hidden_act": "silu", "vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "num_attention_heads": 2, "num_key_value_heads": 2,
        "clip_qkv": null, "intermediate_size": 5, "num_experts": 4, "num_experts_per_tok": 2,
        "norm_topk_prob": false, "rope_theta": 10000})");
}

} // namespace moira
