#include "core/model/checkpoint.hpp"
#include "core/model/checkpoint_weight.hpp"

#include <algorithm>

namespace moira {

namespace {

/// A tensor's bytes with those of its block scales, where it has some.
std::uint64_t bytes_of(const checkpoint& model, const std::string& name) {
    const auto* tensor = model.find(name);
    const auto* scale = model.find(scale_name(name));
    return (tensor ? tensor->bytes : 0) + (scale ? scale->bytes : 0);
}

std::uint64_t bytes_of(const checkpoint& model, const ffn_weight_names& names) {
    const auto packed = names.packed.empty() ? 0 : bytes_of(model, names.packed);
    return packed + bytes_of(model, names.gate) + bytes_of(model, names.up) + bytes_of(model, names.down);
}

std::uint64_t dense_bytes_of(const checkpoint& model, const layer_weight_names& names) {
    const auto& attention = names.attention;
    std::uint64_t bytes = bytes_of(model, names.dense) + bytes_of(model, names.shared);
    for (const auto* name : {&names.input_norm,    &names.post_attention_norm,
                             &names.router,        &names.router_bias,
                             &attention.q,         &attention.k,
                             &attention.v,         &attention.q_bias,
                             &attention.k_bias,    &attention.v_bias,
                             &attention.q_norm,    &attention.k_norm,
                             &attention.q_a,       &attention.q_a_norm,
                             &attention.q_b,       &attention.kv_a,
                             &attention.kv_a_norm, &attention.kv_b,
                             &attention.q_a_bias,  &attention.kv_a_bias,
                             &attention.o,         &attention.o_bias})
        if (!name->empty())
            bytes += bytes_of(model, *name);
    return bytes;
}

} // namespace

checkpoint_summary summarize(const checkpoint& model) {
    const auto& shape = model.shape();
    const auto names = weight_names(shape);
    checkpoint_summary summary;
    summary.architecture = shape.architecture;
    summary.layers = shape.layers;
    summary.experts = shape.moe.experts;
    summary.top_k = shape.moe.top_k;
    summary.bytes_total = model.tensor_bytes_total();
    for (const auto& [name, tensor] : model.tensors())
        summary.bytes_by_type[std::string(tensor_type_name(tensor.type))] += tensor.bytes;

    const auto embedding_bytes = bytes_of(model, names.embedding);
    summary.bytes_dense = embedding_bytes + bytes_of(model, names.final_norm);
    if (!shape.tied_embedding)
        summary.bytes_dense += bytes_of(model, names.head);
    for (const auto& layer : names.layers)
        if (!layer.experts.empty() && summary.expert_type.empty())
            if (const auto* gate = model.find(layer.experts.front().gate))
                summary.expert_type = tensor_type_name(gate->type);
    if (const auto* layout = model.expert_layout())
        summary.expert_type = tensor_type_name(layout->weight_type());
    if (const auto runnable = check_runnable(model); !runnable)
        summary.refusal = runnable.error().message;
    std::uint64_t chosen_bytes = 0;
    for (const auto& layer : names.layers) {
        summary.bytes_dense += dense_bytes_of(model, layer);
        std::uint64_t largest = 0; // layers may differ in precision
        for (const auto& expert : layer.experts)
            largest = std::max(largest, bytes_of(model, expert));
        summary.bytes_per_expert = std::max(summary.bytes_per_expert, largest);
        if (!layer.experts.empty())
            chosen_bytes += largest * static_cast<std::uint64_t>(shape.moe.top_k);
    }
    // A token looks up one row of the embedding, unless the head reads the same matrix.
    const auto row_bytes = embedding_bytes / static_cast<std::uint64_t>(shape.vocabulary);
    const auto skipped_bytes = shape.tied_embedding ? 0 : embedding_bytes - row_bytes;
    summary.bytes_active_per_token = summary.bytes_dense - skipped_bytes + chosen_bytes;
    return summary;
}

} // namespace moira
