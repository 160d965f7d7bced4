// Names, shapes and spread of all tensors, by family.
//
// How values are spread: blocks read normalised rows, so a weight of deviation 1 / sqrt(inputs) gives outputs of about
// unit size: neither dies nor explodes with depth, attention scores and router logits have about unit spread (near
// uniform routing), and so do the logits. That is the fan-in rule of real initialisations.
#include "core/synthesize/synthetic_tensors.hpp"

#include <cmath>

namespace moira {

namespace {

/// Norm weights of trained models scatter around one; a kernel that forgets them shall show.
constexpr double norm_deviation = 0.1;
constexpr double bias_deviation = 0.02;

class tensor_list {
public:
    explicit tensor_list(bool fp8) : fp8_(fp8) {}

    void norm(const std::string& name, std::int64_t width) {
        tensors.push_back({name, tensor_type::bf16, {width}, 1.0, norm_deviation});
    }
    void bias(const std::string& name, std::vector<std::int64_t> shape, double deviation = bias_deviation) {
        tensors.push_back({name, tensor_type::bf16, std::move(shape), 0.0, deviation});
    }
    /// Embedding and routers: kept in BF16.
    void plain(const std::string& name, std::int64_t n, std::int64_t k, double deviation) {
        tensors.push_back({name, tensor_type::bf16, {n, k}, 0.0, deviation});
    }
    /// A linear map of `k` inputs.
    void linear(const std::string& name, std::int64_t n, std::int64_t k) { weight(name, {n, k}, k); }

    /// `shape` ends in the two dimensions of a matrix.
    void weight(const std::string& name, std::vector<std::int64_t> shape, std::int64_t inputs) {
        const double deviation = 1.0 / std::sqrt(static_cast<double>(inputs));
        if (!fp8_) {
            tensors.push_back({name, tensor_type::bf16, std::move(shape), 0.0, deviation});
            return;
        }
        auto blocks = shape;
        for (auto at = blocks.end() - 2; at != blocks.end(); ++at)
            *at = (*at + scale_block - 1) / scale_block;
        tensors.push_back({name, tensor_type::f8_e4m3, std::move(shape), 0.0, deviation});
        tensors.push_back({name + "_scale_inv", tensor_type::f32, std::move(blocks), 0.0, deviation, true});
    }
    void ffn(const std::string& prefix, std::int64_t hidden, std::int64_t inner) {
        linear(prefix + "gate_proj.weight", inner, hidden);
        linear(prefix + "up_proj.weight", inner, hidden);
        linear(prefix + "down_proj.weight", hidden, inner);
    }

    std::vector<synthetic_tensor> tensors;

private:
    bool fp8_;
};

double router_deviation(const synthetic_shape& shape) {
    return 1.0 / std::sqrt(static_cast<double>(shape.hidden));
}

void gqa_attention(const synthetic_shape& shape, const std::string& prefix, bool bias, tensor_list& list) {
    const std::int64_t query = std::int64_t{shape.heads} * shape.head_dim;
    const std::int64_t key = std::int64_t{shape.kv_heads} * shape.head_dim;
    list.linear(prefix + "q_proj.weight", query, shape.hidden);
    list.linear(prefix + "k_proj.weight", key, shape.hidden);
    list.linear(prefix + "v_proj.weight", key, shape.hidden);
    list.linear(prefix + "o_proj.weight", shape.hidden, query);
    if (!bias)
        return;
    list.bias(prefix + "q_proj.bias", {query});
    list.bias(prefix + "k_proj.bias", {key});
    list.bias(prefix + "v_proj.bias", {key});
    list.bias(prefix + "o_proj.bias", {shape.hidden});
}

void mla_attention(const synthetic_shape& shape, const std::string& prefix, tensor_list& list) {
    const std::int64_t heads = shape.heads;
    list.linear(prefix + "q_proj.weight", heads * (shape.head_dim + shape.rope_dim), shape.hidden);
    list.linear(prefix + "kv_a_proj_with_mqa.weight", shape.kv_rank + shape.rope_dim, shape.hidden);
    list.norm(prefix + "kv_a_layernorm.weight", shape.kv_rank);
    list.linear(prefix + "kv_b_proj.weight", heads * 2 * shape.head_dim, shape.kv_rank);
    list.linear(prefix + "o_proj.weight", shape.hidden, heads * shape.head_dim);
}

void listed_experts(const synthetic_shape& shape, const std::string& prefix, tensor_list& list) {
    list.plain(prefix + "gate.weight", shape.experts, shape.hidden, router_deviation(shape));
    if (shape.family == synthetic_family::deepseek_v3)
        list.bias(prefix + "gate.e_score_correction_bias", {shape.experts});
    for (std::int32_t expert = 0; expert < shape.experts; ++expert)
        list.ffn(prefix + "experts." + std::to_string(expert) + ".", shape.hidden, shape.expert_inner);
    if (shape.shared_experts > 0)
        list.ffn(prefix + "shared_experts.", shape.hidden, std::int64_t{shape.shared_experts} * shape.expert_inner);
}

/// gpt_oss keeps all experts of a layer in one tensor, inputs first, gate and up interleaved.
void stacked_experts(const synthetic_shape& shape, const std::string& prefix, tensor_list& list) {
    const std::int64_t experts = shape.experts, hidden = shape.hidden, inner = shape.expert_inner;
    list.plain(prefix + "router.weight", experts, hidden, router_deviation(shape));
    list.bias(prefix + "router.bias", {experts});
    list.weight(prefix + "experts.gate_up_proj", {experts, hidden, 2 * inner}, hidden);
    list.bias(prefix + "experts.gate_up_proj_bias", {experts, 2 * inner});
    list.weight(prefix + "experts.down_proj", {experts, inner, hidden}, inner);
    list.bias(prefix + "experts.down_proj_bias", {experts, hidden});
}

void attention(const synthetic_shape& shape, const std::string& prefix, tensor_list& list) {
    switch (shape.family) {
    case synthetic_family::qwen3_moe:
        gqa_attention(shape, prefix, false, list);
        list.norm(prefix + "q_norm.weight", shape.head_dim);
        list.norm(prefix + "k_norm.weight", shape.head_dim);
        break;
    case synthetic_family::olmoe: // normalises whole rows
        gqa_attention(shape, prefix, false, list);
        list.norm(prefix + "q_norm.weight", std::int64_t{shape.heads} * shape.head_dim);
        list.norm(prefix + "k_norm.weight", std::int64_t{shape.kv_heads} * shape.head_dim);
        break;
    case synthetic_family::deepseek_v2:
    case synthetic_family::deepseek_v3:
        mla_attention(shape, prefix, list);
        break;
    case synthetic_family::gpt_oss:
        gqa_attention(shape, prefix, true, list);
        list.bias(prefix + "sinks", {shape.heads}, 1.0); // logits beside attention scores, which have unit spread
        break;
    }
}

} // namespace

std::uint64_t synthetic_tensor::elements() const {
    std::uint64_t count = 1;
    for (const auto dimension : shape)
        count *= static_cast<std::uint64_t>(dimension);
    return count;
}

std::vector<synthetic_tensor> synthetic_tensors(const synthetic_shape& shape, bool fp8) {
    tensor_list list(fp8);
    list.plain("model.embed_tokens.weight", shape.vocabulary, shape.hidden, 1.0);
    for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
        const auto prefix = "model.layers." + std::to_string(layer) + ".";
        list.norm(prefix + "input_layernorm.weight", shape.hidden);
        attention(shape, prefix + "self_attn.", list);
        list.norm(prefix + "post_attention_layernorm.weight", shape.hidden);
        if (layer < shape.dense_layers)
            list.ffn(prefix + "mlp.", shape.hidden, shape.dense_inner);
        else if (shape.family == synthetic_family::gpt_oss)
            stacked_experts(shape, prefix + "mlp.", list);
        else
            listed_experts(shape, prefix + "mlp.", list);
    }
    list.norm("model.norm.weight", shape.hidden);
    list.linear("lm_head.weight", shape.vocabulary, shape.hidden);
    return std::move(list.tensors);
}

} // namespace moira
