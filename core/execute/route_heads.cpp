#include "core/execute/route_heads.hpp"

#include "core/model/checkpoint_weight.hpp"
#include "core/route/route_format.hpp"

#include <algorithm>
#include <cstdio>

namespace moira {

namespace {

result<device_buffer> to_device(const op_provider& memory, device_queue& queue, const void* bytes, std::uint64_t count,
                                std::uint64_t alignment) {
    auto buffer = device_buffer::create(memory, count, alignment);
    if (!buffer)
        return buffer;
    if (auto copied = queue.upload(buffer->as<void>(), bytes, count); !copied)
        return tl::unexpected(copied.error());
    if (auto done = queue.synchronize(); !done)
        return tl::unexpected(done.error());
    return buffer;
}

result<device_buffer> pack_matrix(const prepared_op& op, const moira_gemm_desc& desc, const std::vector<float>& matrix,
                                  const op_provider& memory, device_queue& queue) {
    const auto packing = packing_of(desc);
    const auto& provider = *op.provider;
    moira_pack_info info{};
    info.struct_size = sizeof info;
    if (const auto status = provider.api->pack_query(provider.device, &packing, &info); status != MOIRA_OK)
        return tl::unexpected(plugin_error(provider, status, "packing a trained predictor"));
    std::vector<std::byte> packed(info.packed_bytes), scratch(info.scratch_bytes);
    const moira_pack_source source{matrix.data(), nullptr, nullptr};
    if (const auto status = provider.api->pack(provider.device, &packing, &source, packed.data(), scratch.data());
        status != MOIRA_OK)
        return tl::unexpected(plugin_error(provider, status, "packing a trained predictor"));
    return to_device(memory, queue, packed.data(), packed.size(), std::max(info.alignment, device_alignment));
}

result<linear> load_head(const prepared_op& op, const moira_gemm_desc& desc, const std::vector<float>& matrix,
                         const std::vector<float>& bias, const op_provider& memory, device_queue& queue) {
    auto weight = pack_matrix(op, desc, matrix, memory, queue);
    if (!weight)
        return tl::unexpected(weight.error());
    auto offset = to_device(memory, queue, bias.data(), bias.size() * sizeof(float), device_alignment);
    if (!offset)
        return tl::unexpected(offset.error());
    return linear{&op, std::move(*weight), std::move(*offset)};
}

/// Log-odds are compared as they are: no bias, no groups.
moira_router_topk_desc choice_by_head(const op_describer& describe, std::int32_t ranks) {
    auto desc = describe.router_topk();
    desc.top_k = static_cast<std::uint32_t>(ranks);
    desc.scoring = MOIRA_SCORE_SOFTMAX;
    desc.has_bias = 0;
    desc.groups = 1;
    desc.groups_kept = 1;
    desc.normalize = 0;
    desc.scale = 1.0F;
    return desc;
}

} // namespace

result<std::unique_ptr<route_heads>> route_heads::create(const linear_heads& trained, const model_shape& shape,
                                                         const execution_limits& limits, std::int32_t ranks,
                                                         op_set& ops, const op_provider& memory, device_queue& queue) {
    const op_describer describe(shape, limits);
    std::unique_ptr<route_heads> made(new route_heads(shape));
    auto choose = ops.prepare(choice_by_head(describe, ranks));
    if (!choose)
        return tl::unexpected(choose.error());
    made->choose_ = *choose;
    const auto desc = describe.linear({shape.moe.experts, shape.hidden, MOIRA_COMPUTE_F32, false, true},
                                      plain_weight(MOIRA_TYPE_F32));
    auto op = ops.prepare(desc);
    if (!op)
        return tl::unexpected(op.error());
    for (const auto& head : trained.heads) {
        if (head.bias.empty()) {
            made->heads_.emplace_back();
            continue;
        }
        auto loaded = load_head(**op, desc, trained.matrix(head), head.bias, memory, queue);
        if (!loaded)
            return tl::unexpected(loaded.error());
        made->heads_.push_back(std::move(*loaded));
    }
    return made;
}

const linear* route_heads::find(std::int32_t from, std::int32_t ahead) const noexcept {
    const auto ordinal = layers_.ordinal(from);
    // A dense layer in between would make the same head look further.
    if (ordinal < 0 || ahead < 1 || ahead > heads_ahead_max || layers_.ordinal(from + ahead) != ordinal + ahead)
        return nullptr;
    const auto& head = heads_[static_cast<std::size_t>((ahead - 1) * layers_.count() + ordinal)];
    return head.op ? &head : nullptr;
}

predictor_subject subject_of(const model_shape& shape, const std::string& name, const std::string& fingerprint) {
    return {name, fingerprint, shape.moe_layers(), shape.moe.experts, shape.moe.top_k, shape.hidden};
}

result<std::string> router_fingerprint(const checkpoint& model) {
    const auto names = weight_names(model.shape());
    route_format::hash sum;
    for (const auto& layer : names.layers) {
        if (layer.router.empty())
            continue;
        const auto* tensor = model.find(layer.router);
        if (!tensor)
            return fail(errc::corrupt_file, model.folder().string() + ": tensor " + layer.router + " is missing");
        std::vector<std::byte> bytes(tensor->bytes);
        if (auto read = model.read(*tensor, bytes); !read)
            return tl::unexpected(read.error());
        sum.update(bytes);
    }
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(sum.digest()));
    return std::string(text);
}

} // namespace moira
