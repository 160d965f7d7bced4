#include "core/model/architectures/architecture.hpp"

#include <algorithm>

namespace moira {

void weight_list::add_ffn(ffn_weight_names& names, const std::string& prefix, std::int64_t hidden, std::int64_t inner) {
    add(names.gate, prefix + "gate_proj.weight", {inner, hidden});
    add(names.up, prefix + "up_proj.weight", {inner, hidden});
    add(names.down, prefix + "down_proj.weight", {hidden, inner});
}

void weight_list::add_gqa(attention_weight_names& names, const std::string& prefix, const model_shape& shape) {
    const auto& gqa = *shape.gqa;
    const std::int64_t kv_width = gqa.kv_heads * gqa.head_dim;
    add(names.q, prefix + "q_proj.weight", {shape.query_width(), shape.hidden});
    add(names.k, prefix + "k_proj.weight", {kv_width, shape.hidden});
    add(names.v, prefix + "v_proj.weight", {kv_width, shape.hidden});
    add(names.o, prefix + "o_proj.weight", {shape.hidden, shape.attention_width()});
    if (gqa.bias) {
        add(names.q_bias, prefix + "q_proj.bias", {shape.query_width()});
        add(names.k_bias, prefix + "k_proj.bias", {kv_width});
        add(names.v_bias, prefix + "v_proj.bias", {kv_width});
    }
    if (gqa.output_bias)
        add(names.o_bias, prefix + "o_proj.bias", {shape.hidden});
}

void weight_list::add_experts(layer_weight_names& names, const std::string& prefix, const model_shape& shape) {
    add(names.router, prefix + "gate.weight", {shape.moe.experts, shape.hidden});
    names.experts.resize(static_cast<std::size_t>(shape.moe.experts));
    for (std::size_t expert = 0; expert < names.experts.size(); ++expert) {
        const auto own = prefix + "experts." + std::to_string(expert) + ".";
        const auto first = tensors_.size();
        add_ffn(names.experts[expert], own, shape.hidden, shape.moe.inner);
        names.experts[expert].packed = own + "packed";
        for (auto& tensor : std::span(tensors_).subspan(first))
            tensor.packed = names.experts[expert].packed;
    }
}

void weight_list::add_outer(model_weight_names& names, const model_shape& shape) {
    add(names.embedding, "model.embed_tokens.weight", {shape.vocabulary, shape.hidden});
    add(names.final_norm, "model.norm.weight", {shape.hidden});
    if (shape.tied_embedding)
        names.head = names.embedding;
    else
        add(names.head, "lm_head.weight", {shape.vocabulary, shape.hidden});
}

model_weight_names weight_names(const model_shape& shape, std::int32_t mtp_modules) {
    model_weight_names names;
    const auto* described = find_architecture(shape.architecture);
    if (!described)
        return names;
    weight_list outer;
    described->outer_weights(shape, names, outer);
    mtp_modules = described->mtp_weights ? std::clamp(mtp_modules, 0, shape.mtp_layers) : 0;
    names.layers.resize(static_cast<std::size_t>(shape.layers + mtp_modules));
    names.mtp.resize(static_cast<std::size_t>(mtp_modules));
    for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
        weight_list weights;
        described->layer_weights(shape, layer, names.layers[static_cast<std::size_t>(layer)], weights);
    }
    for (std::int32_t module = 0; module < mtp_modules; ++module) {
        weight_list weights;
        described->mtp_weights(shape, module, names.mtp[static_cast<std::size_t>(module)],
                               names.layers[static_cast<std::size_t>(shape.layers + module)], weights);
    }
    return names;
}

} // namespace moira
