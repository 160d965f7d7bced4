#include "plugins/conformance/op_speed.hpp"

#include "plugins/conformance/speed_session.hpp"
#include "plugins/conformance/test_data.hpp"

#include <algorithm>
#include <numeric>

namespace moira {
namespace {

/// Different choices of experts that launches take in turn.
constexpr std::uint32_t variants = 16;

moira_expert_ffn_desc expert_desc(const op_speed_options& options, const moira_quantization& quantization,
                                  std::uint32_t pairs) {
    moira_expert_ffn_desc desc{};
    desc.header = {sizeof desc, MOIRA_OP_EXPERT_FFN, pairs};
    desc.hidden = options.hidden;
    desc.inner = options.inner;
    desc.experts = options.experts;
    desc.activation = MOIRA_FFN_SILU_GATED;
    desc.quantization = quantization;
    return desc;
}

/// A layer's experts in memory: one set of numbers, at as many addresses as there are experts.
struct resident_layer {
    std::vector<moira_expert_entry> table;
    std::uint64_t slab_bytes = 0;
    std::vector<std::byte> slab; ///< packed, on the host
};

resident_layer make_layer(speed_session& session, const op_speed_options& options,
                          const moira_quantization& quantization) {
    moira_pack_desc pack{};
    pack.struct_size = sizeof pack;
    pack.kind = MOIRA_PACK_EXPERT;
    pack.n = options.inner;
    pack.k = options.hidden;
    pack.compute = MOIRA_COMPUTE_AUTO;
    pack.quantization = quantization;
    const stored_weight in = random_weight(1, quantization, options.inner, options.hidden);
    const stored_weight down = random_weight(2, quantization, options.hidden, options.inner);
    const auto source = [](const stored_weight& weight) {
        return moira_pack_source{weight.bytes.data(), weight.scales.empty() ? nullptr : weight.scales.data(), nullptr};
    };
    resident_layer layer;
    std::uint32_t layout_id = 0;
    layer.slab = session.pack(pack, {source(in), source(in), source(down)}, layout_id);
    layer.slab_bytes = layer.slab.size();
    for (std::uint32_t expert = 0; expert < options.experts; ++expert)
        layer.table.push_back(
            {reinterpret_cast<std::uintptr_t>(session.upload(layer.slab.data(), layer.slab_bytes)), 1, layout_id});
    return layer;
}

struct routed_batch {
    std::vector<moira_expert_group> groups;
    std::vector<moira_expert_pair> pairs;
};

/// Every token takes top_k different experts, any as likely as another.
routed_batch route(number_source& numbers, const op_speed_options& options, std::uint32_t batch) {
    std::vector<std::vector<moira_expert_pair>> of_expert(options.experts);
    std::vector<std::uint32_t> order(options.experts);
    std::iota(order.begin(), order.end(), 0u);
    for (std::uint32_t token = 0; token < batch; ++token)
        for (std::uint32_t rank = 0; rank < options.top_k; ++rank) {
            std::swap(order[rank], order[rank + numbers.below(options.experts - rank)]);
            of_expert[order[rank]].push_back(
                {static_cast<std::int32_t>(token), static_cast<std::int32_t>(token * options.top_k + rank)});
        }
    routed_batch routed;
    for (std::uint32_t expert = 0; expert < options.experts; ++expert) {
        if (of_expert[expert].empty())
            continue;
        routed.groups.push_back({expert, 1, static_cast<std::uint32_t>(routed.pairs.size()),
                                 static_cast<std::uint32_t>(of_expert[expert].size())});
        routed.pairs.insert(routed.pairs.end(), of_expert[expert].begin(), of_expert[expert].end());
    }
    return routed;
}

op_speed_row time_experts(speed_session& session, const op_speed_options& options, const resident_layer& layer,
                          const moira_quantization& quantization, std::uint32_t batch) {
    const std::uint32_t pairs = batch * options.top_k;
    const auto desc = expert_desc(options, quantization, pairs);
    moira_expert_ffn_args args{};
    const moira_op* op = session.prepare(desc.header, &args.workspace);
    args.pairs = pairs;
    args.x = session.upload(random_floats(3, std::size_t{batch} * options.hidden));
    args.x_stride = options.hidden;
    args.table = session.upload(layer.table);
    args.out = session.upload(std::vector<float>(std::size_t{pairs} * options.hidden));
    args.out_stride = options.hidden;
    number_source numbers(batch);
    std::vector<moira_expert_ffn_args> all(variants, args);
    double read = 0;
    for (auto& each : all) {
        const routed_batch routed = route(numbers, options, batch);
        each.groups = static_cast<std::uint32_t>(routed.groups.size());
        each.group_table = session.upload(routed.groups);
        each.pair_table = session.upload(routed.pairs);
        read += static_cast<double>(routed.groups.size()) / variants;
    }
    const double us = session.time_launches(op, all, options.seconds);
    const double flops = 2.0 * 3 * pairs * options.hidden * options.inner;
    return {"expert_ffn", type_name(quantization.weight_type),          batch,
            us,           read * static_cast<double>(layer.slab_bytes), flops};
}

moira_gemm_desc gemm_desc(const op_speed_options& options, const moira_quantization& quantization,
                          std::uint32_t compute, std::uint32_t batch) {
    moira_gemm_desc desc{};
    desc.header = {sizeof desc, MOIRA_OP_GEMM, batch};
    desc.n = options.gemm_n;
    desc.k = options.hidden;
    desc.compute = compute;
    desc.quantization = quantization;
    return desc;
}

op_speed_row time_gemm(speed_session& session, const op_speed_options& options, const std::vector<const void*>& weights,
                       std::uint64_t weight_bytes, const moira_gemm_desc& desc) {
    const std::uint32_t batch = desc.header.rows_max;
    moira_gemm_args args{};
    const moira_op* op = session.prepare(desc.header, &args.workspace);
    args.rows = batch;
    args.x = session.upload(random_floats(4, std::size_t{batch} * options.hidden));
    args.x_stride = options.hidden;
    args.out = session.upload(std::vector<float>(std::size_t{batch} * options.gemm_n));
    args.out_stride = options.gemm_n;
    std::vector<moira_gemm_args> all(weights.size(), args);
    for (std::size_t i = 0; i < all.size(); ++i)
        all[i].weight = weights[i];
    const double us = session.time_launches(op, all, options.seconds);
    return {desc.compute == MOIRA_COMPUTE_LIBRARY ? "gemm_library" : "gemm",
            type_name(desc.quantization.weight_type),
            batch,
            us,
            static_cast<double>(weight_bytes),
            2.0 * batch * options.gemm_n * options.hidden};
}

void time_gemms(speed_session& session, const op_speed_options& options, const moira_quantization& quantization,
                std::uint32_t compute, std::vector<op_speed_row>& rows) {
    moira_pack_desc pack{};
    pack.struct_size = sizeof pack;
    pack.kind = MOIRA_PACK_GEMM;
    pack.n = options.gemm_n;
    pack.k = options.hidden;
    pack.compute = compute;
    pack.quantization = quantization;
    const stored_weight stored = random_weight(5, quantization, options.gemm_n, options.hidden);
    std::uint32_t layout_id = 0;
    const auto packed = session.pack(
        pack, {{stored.bytes.data(), stored.scales.empty() ? nullptr : stored.scales.data(), nullptr}}, layout_id);
    std::vector<const void*> weights;
    for (std::uint32_t copy = 0; copy < options.gemm_weights; ++copy)
        weights.push_back(session.upload(packed.data(), packed.size()));
    for (const std::uint32_t batch : options.batches)
        rows.push_back(
            time_gemm(session, options, weights, packed.size(), gemm_desc(options, quantization, compute, batch)));
}

} // namespace

result<std::vector<op_speed_row>> measure_op_speeds(const op_provider& provider, const op_speed_options& options) {
    std::vector<op_speed_row> rows;
    for (const moira_quantization& quantization : {plain(MOIRA_TYPE_BF16), block_f8()}) {
        speed_session session(provider); // gives the memory back before the next type
        const resident_layer layer = make_layer(session, options, quantization);
        for (const std::uint32_t batch : options.batches)
            rows.push_back(time_experts(session, options, layer, quantization, batch));
        const double copied = static_cast<double>(layer.slab_bytes);
        rows.push_back({"copy", type_name(quantization.weight_type), 1,
                        session.time_copies(layer.slab, options.seconds), copied, 0});
        time_gemms(session, options, quantization, MOIRA_COMPUTE_AUTO, rows);
        const auto by_library = gemm_desc(options, quantization, MOIRA_COMPUTE_LIBRARY, 1);
        if (session.supports(by_library.header)) // an offer
            time_gemms(session, options, quantization, MOIRA_COMPUTE_LIBRARY, rows);
        if (session.failed())
            return fail(errc::device_error, session.failure());
    }
    return rows;
}

} // namespace moira
