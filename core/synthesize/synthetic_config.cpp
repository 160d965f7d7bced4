// The configuration files of synthetic models: the keys of the published ones, in the Hub's spelling.
#include "core/synthesize/synthetic_shape.hpp"

#include <nlohmann/json.hpp>

namespace moira {

namespace {

using json = nlohmann::ordered_json;

/// The key that marks a folder as made here, so that only such folders are ever replaced.
constexpr const char* synthetic_key = "moira_synthetic";

constexpr int indent = 2;

json optional_id(const std::optional<token_id>& id) {
    return id ? json(*id) : json(nullptr);
}

const char* class_name_of(synthetic_family family) {
    switch (family) {
    case synthetic_family::qwen3_moe:
        return "Qwen3MoeForCausalLM";
    case synthetic_family::olmoe:
        return "OlmoeForCausalLM";
    case synthetic_family::deepseek_v2:
        return "DeepseekV2ForCausalLM";
    case synthetic_family::deepseek_v3:
        return "DeepseekV3ForCausalLM";
    case synthetic_family::gpt_oss:
        return "GptOssForCausalLM";
    }
    return "";
}

json common_config(const synthetic_shape& shape) {
    return {{"architectures", {class_name_of(shape.family)}},
            {"model_type", model_type_of(shape.family)},
            {"attention_bias", shape.family == synthetic_family::gpt_oss},
            {"attention_dropout", 0.0},
            {"bos_token_id", optional_id(shape.bos)},
            {"eos_token_id", shape.eos},
            {"pad_token_id", optional_id(shape.pad)},
            {"hidden_act", "silu"},
            {"hidden_size", shape.hidden},
            {"initializer_range", 0.02},
            {"max_position_embeddings", shape.context_max},
            {"num_attention_heads", shape.heads},
            {"num_key_value_heads", shape.kv_heads},
            {"num_hidden_layers", shape.layers},
            {"num_experts_per_tok", shape.top_k},
            {"rms_norm_eps", shape.norm_epsilon},
            {"rope_theta", shape.rope_theta},
            {"tie_word_embeddings", false},
            {"torch_dtype", "bfloat16"},
            {"use_cache", true},
            {"vocab_size", shape.vocabulary}};
}

json qwen3_moe_keys(const synthetic_shape& shape) {
    return {{"decoder_sparse_step", 1},
            {"head_dim", shape.head_dim},
            {"intermediate_size", shape.dense_inner},
            {"mlp_only_layers", json::array()},
            {"moe_intermediate_size", shape.expert_inner},
            {"norm_topk_prob", true},
            {"num_experts", shape.experts},
            {"rope_scaling", nullptr},
            {"sliding_window", nullptr},
            {"use_sliding_window", false}};
}

json olmoe_keys(const synthetic_shape& shape) {
    return {{"clip_qkv", nullptr},
            {"intermediate_size", shape.expert_inner},
            {"norm_topk_prob", false},
            {"num_experts", shape.experts},
            {"rope_scaling", nullptr}};
}

json deepseek_v2_keys(const synthetic_shape& shape) {
    // YaRN as DeepSeek-V2-Lite declares it.
    const json rope{{"type", "yarn"},         {"factor", 40},   {"original_max_position_embeddings", 4096},
                    {"beta_fast", 32},        {"beta_slow", 1}, {"mscale", 0.707},
                    {"mscale_all_dim", 0.707}};
    return {{"first_k_dense_replace", shape.dense_layers},
            {"intermediate_size", shape.dense_inner},
            {"kv_lora_rank", shape.kv_rank},
            {"moe_intermediate_size", shape.expert_inner},
            {"moe_layer_freq", 1},
            {"n_group", 1},
            {"n_routed_experts", shape.experts},
            {"n_shared_experts", shape.shared_experts},
            {"norm_topk_prob", false},
            {"q_lora_rank", nullptr},
            {"qk_nope_head_dim", shape.head_dim},
            {"qk_rope_head_dim", shape.rope_dim},
            {"rope_scaling", rope},
            {"routed_scaling_factor", 1.0},
            {"scoring_func", "softmax"},
            {"topk_group", 1},
            {"topk_method", "greedy"},
            {"v_head_dim", shape.head_dim}};
}

json deepseek_v3_keys(const synthetic_shape& shape) {
    auto keys = deepseek_v2_keys(shape);
    keys["norm_topk_prob"] = true;
    keys["num_nextn_predict_layers"] = 0;
    keys["scoring_func"] = "sigmoid";
    keys["topk_method"] = "noaux_tc";
    return keys;
}

json gpt_oss_keys(const synthetic_shape& shape) {
    auto layer_types = json::array();
    for (std::int32_t layer = 0; layer < shape.layers; ++layer)
        layer_types.push_back(layer % 2 == 0 ? "sliding_attention" : "full_attention");
    const json rope{{"rope_type", "yarn"}, {"factor", 32.0},   {"original_max_position_embeddings", 4096},
                    {"beta_fast", 32.0},   {"beta_slow", 1.0}, {"truncate", false}};
    return {{"head_dim", shape.head_dim}, {"intermediate_size", shape.expert_inner},
            {"layer_types", layer_types}, {"num_local_experts", shape.experts},
            {"rope_scaling", rope},       {"sliding_window", shape.window},
            {"swiglu_limit", 7.0}};
}

json family_keys(const synthetic_shape& shape) {
    switch (shape.family) {
    case synthetic_family::qwen3_moe:
        return qwen3_moe_keys(shape);
    case synthetic_family::olmoe:
        return olmoe_keys(shape);
    case synthetic_family::deepseek_v2:
        return deepseek_v2_keys(shape);
    case synthetic_family::deepseek_v3:
        return deepseek_v3_keys(shape);
    case synthetic_family::gpt_oss:
        return gpt_oss_keys(shape);
    }
    return json::object();
}

} // namespace

std::string synthetic_config_json(const synthetic_shape& shape, bool fp8, std::uint64_t seed) {
    json config = common_config(shape);
    config.update(family_keys(shape));
    if (fp8)
        config["quantization_config"] = {{"quant_method", "fp8"},
                                         {"fmt", "e4m3"},
                                         {"activation_scheme", "dynamic"},
                                         {"weight_block_size", {128, 128}}};
    config[synthetic_key] = {{"shape", shape.name}, {"seed", seed}};
    return config.dump(indent) + "\n";
}

std::string synthetic_generation_config_json(const synthetic_shape& shape) {
    json config = json::object();
    if (shape.bos)
        config["bos_token_id"] = *shape.bos;
    config["eos_token_id"] = shape.eos;
    if (shape.pad)
        config["pad_token_id"] = *shape.pad;
    return config.dump(indent) + "\n";
}

bool is_synthetic_config(std::string_view config_json) {
    const auto config = json::parse(config_json, nullptr, false);
    return config.is_object() && config.contains(synthetic_key);
}

} // namespace moira
