#include "core/execute/weight_loader.hpp"

#include "core/base/float_formats.hpp"
#include "core/experts/locked_memory.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace moira {

// Loading is a long list of steps that can all fail in the same way.
#define MOIRA_TRY(variable, expression)                                                                                \
    auto variable##_or = (expression);                                                                                 \
    if (!variable##_or)                                                                                                \
        return tl::unexpected(variable##_or.error());                                                                  \
    auto variable = std::move(*variable##_or)

weight_loader::weight_loader(const checkpoint& model, const model_weight_names& names, const execution_limits& limits,
                             op_set& ops, const op_provider& memory, device_queue& queue, load_progress progress)
    : model_(model), shape_(model.shape()), names_(names), describe_(shape_, limits),
      limits_(limits), ops_(ops), memory_(memory), queue_(queue),
      progress_(std::move(progress)), dense_bytes_total_(summarize(model).bytes_dense) {}

// ---- bytes ---------------------------------------------------------------------------------------------------------

result<checkpoint_weight> weight_loader::stored(const std::string& name) const {
    auto found = find_weight(model_, name);
    if (!found)
        return fail(found.error().code, model_.folder().string() + ": " + found.error().message);
    return found;
}

result<std::vector<std::byte>> weight_loader::read_bytes(const tensor_location& tensor) {
    std::vector<std::byte> bytes(tensor.bytes);
    if (auto read = model_.read(tensor, bytes); !read)
        return tl::unexpected(read.error());
    loaded_bytes_ += bytes.size();
    if (progress_)
        progress_(std::min(loaded_bytes_, dense_bytes_total_), dense_bytes_total_);
    return bytes;
}

result<std::vector<std::byte>> weight_loader::read_scales(const tensor_location& scales) {
    MOIRA_TRY(bytes, read_bytes(scales));
    if (auto checked = check_scales(bytes, scales.name); !checked)
        return fail(checked.error().code, model_.folder().string() + ": " + checked.error().message);
    return bytes;
}

result<std::vector<std::byte>> weight_loader::read_widened(const checkpoint_weight& weight) {
    MOIRA_TRY(bytes, read_bytes(*weight.weight));
    if (!weight.scales)
        return bytes;
    MOIRA_TRY(scales, read_scales(*weight.scales));
    std::vector<float> values(bytes.size());
    widen_block_scaled(bytes, scales, static_cast<std::uint32_t>(weight.weight->shape[0]),
                       static_cast<std::uint32_t>(weight.weight->shape[1]), values);
    const auto widened = std::as_bytes(std::span(values));
    return std::vector<std::byte>(widened.begin(), widened.end());
}

result<device_buffer> weight_loader::create_buffer(std::uint64_t bytes, std::uint64_t alignment) {
    auto buffer = device_buffer::create(memory_, bytes, alignment);
    // Small ones share their pages with all sorts of things.
    constexpr std::uint64_t worth_locking_bytes = 1 << 20;
    if (buffer && memory_.device_class == "cpu" && bytes >= worth_locking_bytes &&
        !lock_memory(buffer->as<void>(), bytes))
        unlocked_bytes_ += bytes;
    return buffer;
}

result<device_buffer> weight_loader::to_device(const void* bytes, std::uint64_t count, std::uint64_t alignment) {
    MOIRA_TRY(buffer, create_buffer(count, alignment));
    if (auto copied = queue_.upload(buffer.as<void>(), bytes, count); !copied)
        return tl::unexpected(copied.error());
    if (auto done = queue_.synchronize(); !done)
        return tl::unexpected(done.error());
    return buffer;
}

result<device_buffer> weight_loader::load_f32(const std::string& name, std::int32_t elements) {
    MOIRA_TRY(found, stored(name));
    MOIRA_TRY(bytes, read_bytes(*found.weight));
    std::vector<float> values(static_cast<std::size_t>(elements));
    if (found.weight->elements() != values.size() || !widen_to_f32(found.quantization.weight_type, bytes, values))
        return fail(errc::unsupported, model_.folder().string() + ": tensor " + name + " is " +
                                           std::string(tensor_type_name(found.weight->type)) +
                                           "; norms and biases are read as BF16, F16 or F32");
    return to_device(values.data(), values.size() * sizeof(float));
}

result<device_buffer> weight_loader::pack_bytes(const op_provider& provider, const moira_pack_desc& desc,
                                                std::span<const moira_pack_source> sources, const std::string& name) {
    moira_pack_info info{};
    info.struct_size = sizeof info;
    if (const auto status = provider.api->pack_query(provider.device, &desc, &info); status != MOIRA_OK)
        return tl::unexpected(plugin_error(provider, status, "packing " + name));
    const auto alignment = std::max(info.alignment, device_alignment);
    std::vector<std::byte> scratch(info.scratch_bytes);
    const auto pack_into = [&](void* packed) -> result<void> {
        const auto status = provider.api->pack(provider.device, &desc, sources.data(), packed, scratch.data());
        return status == MOIRA_OK ? result<void>() : tl::unexpected(plugin_error(provider, status, "packing " + name));
    };
    // In place where the device's memory is ours: the largest matrix need not lie in memory three times.
    if (memory_.device_class == "cpu") {
        MOIRA_TRY(buffer, create_buffer(info.packed_bytes, alignment));
        if (auto packed = pack_into(buffer.as<void>()); !packed)
            return tl::unexpected(packed.error());
        return buffer;
    }
    std::vector<std::byte> packed(info.packed_bytes);
    if (auto done = pack_into(packed.data()); !done)
        return tl::unexpected(done.error());
    return to_device(packed.data(), packed.size(), alignment);
}

result<device_buffer> weight_loader::pack(const op_provider& provider, const moira_pack_desc& desc,
                                          std::span<const checkpoint_weight> weights) {
    std::vector<std::vector<std::byte>> bytes;
    bytes.reserve(2 * weights.size());
    std::vector<moira_pack_source> sources;
    for (const auto& weight : weights) {
        // One descriptor speaks for all: bytes of another type would be read beyond their end.
        if (!same_quantization(weight.quantization, desc.quantization))
            return fail(errc::invalid_config, model_.folder().string() + ": tensor " + weight.weight->name + " is " +
                                                  std::string(tensor_type_name(weight.weight->type)) +
                                                  ", another type than the matrices it works with");
        MOIRA_TRY(matrix, read_bytes(*weight.weight));
        bytes.push_back(std::move(matrix));
        sources.push_back({bytes.back().data(), nullptr, nullptr});
        if (!weight.scales)
            continue;
        MOIRA_TRY(scales, read_scales(*weight.scales));
        bytes.push_back(std::move(scales));
        sources.back().scales = bytes.back().data();
    }
    return pack_bytes(provider, desc, sources, weights.front().weight->name);
}

/// The absorbed form reads single rows of heads, which blocks of scales cross.
result<device_buffer> weight_loader::load_kv_b(const prepared_op& attention, const moira_pack_desc& desc,
                                               const checkpoint_weight& kv_b) {
    MOIRA_TRY(bytes, read_widened(kv_b));
    const moira_pack_source source{bytes.data(), nullptr, nullptr};
    return pack_bytes(*attention.provider, desc, {&source, 1}, kv_b.weight->name);
}

// ---- parts of a layer ----------------------------------------------------------------------------------------------

result<norm> weight_loader::load_norm(const std::string& name, std::int32_t width) {
    MOIRA_TRY(op, ops_.prepare(describe_.rmsnorm(width)));
    MOIRA_TRY(weight, load_f32(name, width));
    return norm{op, std::move(weight)};
}

result<linear> weight_loader::load_packed(const moira_gemm_desc& desc, const checkpoint_weight& stored, const std::string& bias_name) {
    linear made;
    MOIRA_TRY(op, ops_.prepare(desc));
    made.op = op;
    MOIRA_TRY(weight, pack(*op->provider, packing_of(desc), {&stored, 1}));
    made.weight = std::move(weight);
    if (!bias_name.empty()) {
        MOIRA_TRY(bias, load_f32(bias_name, static_cast<std::int32_t>(desc.n)));
        made.bias = std::move(bias);
    }
    return made;
}

result<linear> weight_loader::load_linear(const std::string& name, const std::string& bias_name, std::int32_t n,
                                          std::int32_t k, bool accumulate) {
    MOIRA_TRY(weight, stored(name));
    const op_describer::linear_form form{n, k, MOIRA_COMPUTE_AUTO, accumulate, !bias_name.empty()};
    return load_packed(describe_.linear(form, weight.quantization), weight, bias_name);
}

result<gated_ffn> weight_loader::load_ffn(const ffn_weight_names& names, std::int32_t inner) {
    MOIRA_TRY(gate, stored(names.gate));
    MOIRA_TRY(up, stored(names.up));
    MOIRA_TRY(down, stored(names.down));
    const auto desc = describe_.every_row_ffn(inner, gate.quantization);
    const std::array<checkpoint_weight, 3> parts = {gate, up, down};
    gated_ffn made;
    MOIRA_TRY(op, ops_.prepare(desc));
    made.op = op;
    MOIRA_TRY(slab, pack(*op->provider, packing_of(desc), parts));
    made.slab = std::move(slab);
    const moira_expert_entry entry{reinterpret_cast<std::uintptr_t>(made.slab.as<void>()), 1, 0};
    MOIRA_TRY(device_entry, to_device(&entry, sizeof entry));
    made.entry = std::move(device_entry);
    return made;
}

result<mla_attention> weight_loader::load_mla(const attention_weight_names& names, const mla_shape& shape) {
    mla_attention made;
    if (shape.query_rank == 0) {
        MOIRA_TRY(query, load_linear(names.q, "", shape_.query_width(), shape_.hidden));
        made.query = std::move(query);
    } else {
        MOIRA_TRY(query_a, load_linear(names.q_a, names.q_a_bias, shape.query_rank, shape_.hidden));
        MOIRA_TRY(query_a_norm, load_norm(names.q_a_norm, shape.query_rank));
        MOIRA_TRY(query_b, load_linear(names.q_b, "", shape_.query_width(), shape.query_rank));
        made.query_a = std::move(query_a);
        made.query_a_norm = std::move(query_a_norm);
        made.query_b = std::move(query_b);
    }
    MOIRA_TRY(kv_a, load_linear(names.kv_a, names.kv_a_bias, shape_.kv_width(), shape_.hidden));
    MOIRA_TRY(kv_a_norm, load_norm(names.kv_a_norm, shape.kv_rank));
    MOIRA_TRY(kv_b_stored, stored(names.kv_b));
    const auto desc = describe_.attention_mla(kv_b_stored.widened_type());
    MOIRA_TRY(rope_query, ops_.prepare(describe_.rope(shape.heads)));
    MOIRA_TRY(rope_key, ops_.prepare(describe_.rope(1)));
    MOIRA_TRY(append, ops_.prepare(describe_.kv_append()));
    MOIRA_TRY(attention, ops_.prepare(desc));
    MOIRA_TRY(kv_b, load_kv_b(*attention, packing_of(desc), kv_b_stored));
    MOIRA_TRY(output, load_linear(names.o, names.o_bias, shape_.hidden, shape_.attention_width(), true));
    made.kv_a = std::move(kv_a);
    made.kv_a_norm = std::move(kv_a_norm);
    made.kv_b = std::move(kv_b);
    made.rope_query = rope_query;
    made.rope_key = rope_key;
    made.append = append;
    made.attention = attention;
    made.output = std::move(output);
    return made;
}

result<gqa_attention> weight_loader::load_gqa(const attention_weight_names& names, const gqa_shape& shape) {
    const auto kv_side = shape.kv_heads * shape.head_dim;
    gqa_attention made;
    MOIRA_TRY(query, load_linear(names.q, names.q_bias, shape_.query_width(), shape_.hidden));
    MOIRA_TRY(key, load_linear(names.k, names.k_bias, kv_side, shape_.hidden));
    MOIRA_TRY(value, load_linear(names.v, names.v_bias, kv_side, shape_.hidden));
    if (shape.query_key_norm) {
        MOIRA_TRY(query_norm, load_norm(names.q_norm, shape.row_norm ? shape_.query_width() : shape.head_dim));
        MOIRA_TRY(key_norm, load_norm(names.k_norm, shape.row_norm ? kv_side : shape.head_dim));
        made.query_norm = std::move(query_norm);
        made.key_norm = std::move(key_norm);
    }
    MOIRA_TRY(rope_query, ops_.prepare(describe_.rope(shape.heads)));
    MOIRA_TRY(rope_key, ops_.prepare(describe_.rope(shape.kv_heads)));
    MOIRA_TRY(append, ops_.prepare(describe_.kv_append()));
    MOIRA_TRY(attention, ops_.prepare(describe_.attention_gqa()));
    MOIRA_TRY(output, load_linear(names.o, names.o_bias, shape_.hidden, shape_.attention_width(), true));
    made.query = std::move(query);
    made.key = std::move(key);
    made.value = std::move(value);
    made.rope_query = rope_query;
    made.rope_key = rope_key;
    made.append = append;
    made.attention = attention;
    made.output = std::move(output);
    return made;
}

result<dense_layer> weight_loader::load_dense(const layer_weight_names& names) {
    MOIRA_TRY(combine, ops_.prepare(describe_.add_block()));
    MOIRA_TRY(ffn, load_ffn(names.dense, shape_.dense_inner));
    return dense_layer{std::move(ffn), combine};
}

result<moe_layer> weight_loader::load_moe(const layer_weight_names& names, const expert_execution& experts) {
    const auto& moe = shape_.moe;
    moe_layer made;
    MOIRA_TRY(router_weight, stored(names.router));
    MOIRA_TRY(router, load_packed(describe_.router(router_weight.quantization), router_weight, ""));
    made.router = std::move(router);
    MOIRA_TRY(topk, ops_.prepare(describe_.router_topk()));
    made.topk = topk;
    if (moe.choice_bias) {
        MOIRA_TRY(bias, load_f32(names.router_bias, moe.experts));
        made.choice_bias = std::move(bias);
    }
    made.experts = experts.op;
    if (moe.shared_inner > 0) {
        MOIRA_TRY(shared, load_ffn(names.shared, moe.shared_inner));
        made.shared = std::move(shared);
    }
    MOIRA_TRY(combine, ops_.prepare(describe_.combine_experts()));
    made.combine = combine;
    return made;
}

result<model_layer> weight_loader::load_layer(std::int32_t index, bool is_moe, const expert_execution& experts) {
    const auto& names = names_.layers[static_cast<std::size_t>(index)];
    model_layer made;
    made.index = index;
    MOIRA_TRY(input_norm, load_norm(names.input_norm, shape_.hidden));
    MOIRA_TRY(post_norm, load_norm(names.post_attention_norm, shape_.hidden));
    made.input_norm = std::move(input_norm);
    made.post_attention_norm = std::move(post_norm);
    if (shape_.mla) {
        MOIRA_TRY(attention, load_mla(names.attention, *shape_.mla));
        made.attention = std::move(attention);
    } else {
        MOIRA_TRY(attention, load_gqa(names.attention, *shape_.gqa));
        made.attention = std::move(attention);
    }
    if (is_moe) {
        MOIRA_TRY(moe, load_moe(names, experts));
        made.feed_forward = std::move(moe);
    } else {
        MOIRA_TRY(dense, load_dense(names));
        made.feed_forward = std::move(dense);
    }
    return made;
}

result<mtp_module> weight_loader::load_mtp(const expert_execution& experts) {
    const auto& names = names_.mtp.front();
    mtp_module made;
    MOIRA_TRY(embedding_norm, load_norm(names.embedding_norm, shape_.hidden));
    MOIRA_TRY(hidden_norm, load_norm(names.hidden_norm, shape_.hidden));
    MOIRA_TRY(projection, load_linear(names.projection, "", shape_.hidden, 2 * shape_.hidden));
    MOIRA_TRY(block, load_layer(shape_.layers, true, experts));
    MOIRA_TRY(head_norm, load_norm(names.head_norm, shape_.hidden));
    made.embedding_norm = std::move(embedding_norm);
    made.hidden_norm = std::move(hidden_norm);
    made.projection = std::move(projection);
    made.block = std::move(block);
    made.head_norm = std::move(head_norm);
    return made;
}

// ---- the whole model -----------------------------------------------------------------------------------------------

result<expert_execution> weight_loader::prepare_experts(expert_precision precision) {
    if (std::find(shape_.layer_is_moe.begin(), shape_.layer_is_moe.end(), true) == shape_.layer_is_moe.end())
        return fail(errc::unsupported, model_.folder().string() + ": no layer has experts; MOIRA runs mixture-of-experts models");
    MOIRA_TRY(quantization, expert_quantization(model_, names_, precision));
    expert_execution made;
    MOIRA_TRY(op, ops_.prepare(describe_.routed_experts(quantization)));
    made.op = op;
    MOIRA_TRY(packing, query_expert_packing(model_, names_, *op->provider, precision));
    made.packing = packing;
    return made;
}

result<model_weights> weight_loader::load(const expert_execution& experts, bool embedding_on_disk) {
    model_weights made;
    MOIRA_TRY(embedding_weight, stored(names_.embedding));
    MOIRA_TRY(embed, ops_.prepare(describe_.embedding(embedding_weight.quantization.weight_type)));
    made.embed = embed;
    if (embedding_on_disk) {
        made.embedding_rows.emplace(model_, *embedding_weight.weight);
        loaded_bytes_ += embedding_weight.weight->bytes;
    } else {
        MOIRA_TRY(embedding_bytes, read_bytes(*embedding_weight.weight));
        MOIRA_TRY(embedding, to_device(embedding_bytes.data(), embedding_bytes.size()));
        made.embedding = std::move(embedding);
    }

    for (std::int32_t index = 0; index < shape_.layers; ++index) {
        MOIRA_TRY(layer, load_layer(index, shape_.layer_is_moe[static_cast<std::size_t>(index)], experts));
        made.layers.push_back(std::move(layer));
    }
    MOIRA_TRY(final_norm, load_norm(names_.final_norm, shape_.hidden));
    made.final_norm = std::move(final_norm);
    MOIRA_TRY(head_weight, stored(names_.head));
    MOIRA_TRY(head, load_packed(describe_.head(head_weight.quantization), head_weight, ""));
    made.head = std::move(head);
    if (!names_.mtp.empty()) {
        MOIRA_TRY(mtp, load_mtp(experts));
        made.mtp = std::move(mtp);
    }

    const auto table = rope_table(shape_.rope, limits_.context_max);
    MOIRA_TRY(rope, to_device(table.data(), table.size() * sizeof(float)));
    made.rope = std::move(rope);
    made.dense_bytes = loaded_bytes_;
    made.unlocked_bytes = unlocked_bytes_;
    return made;
}

#undef MOIRA_TRY

}  // namespace moira
