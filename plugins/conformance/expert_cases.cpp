// Cases of the grouped expert FFN: ragged and empty groups in any order, biases, both activations.
#include "plugins/conformance/op_case.hpp"

#include <array>
#include <memory>
#include <numeric>

namespace moira {
namespace {

/// One expert as a checkpoint holds it.
struct stored_expert {
    stored_weight gate;
    stored_weight up;
    stored_weight down;
    std::vector<float> gate_bias; // empty: none
    std::vector<float> up_bias;
    std::vector<float> down_bias;
};

struct group_size {
    std::uint32_t expert;
    std::uint32_t pairs;
};

struct expert_shape {
    std::uint32_t hidden;
    std::uint32_t inner;
    std::uint32_t experts;
    std::uint32_t activation;
    bool biases;
    std::vector<group_size> groups;
};

/// The whole layer, shared by the runs of a case.
struct expert_layer {
    moira_expert_ffn_desc desc;
    std::vector<stored_expert> experts;
    std::vector<group_size> groups;
    std::vector<float> x; // [pairs, hidden]: pair i reads a row of its own
};

stored_expert random_expert(std::uint64_t seed, const moira_expert_ffn_desc& desc, bool biases) {
    stored_expert expert;
    expert.gate = random_weight(seed, desc.quantization, desc.inner, desc.hidden);
    expert.up = random_weight(seed + 1, desc.quantization, desc.inner, desc.hidden);
    expert.down = random_weight(seed + 2, desc.quantization, desc.hidden, desc.inner);
    if (biases) {
        expert.gate_bias = random_floats(seed + 3, desc.inner);
        expert.up_bias = random_floats(seed + 4, desc.inner);
        expert.down_bias = random_floats(seed + 5, desc.hidden);
    }
    return expert;
}

moira_pack_source source_of(const stored_weight& weight, const std::vector<float>& bias) {
    return {weight.bytes.data(), weight.scales.empty() ? nullptr : weight.scales.data(),
            bias.empty() ? nullptr : bias.data()};
}

moira_expert_entry load(device_session& session, const expert_layer& layer, const stored_expert& expert,
                        std::uint32_t generation) {
    moira_pack_desc pack{};
    pack.struct_size = sizeof pack;
    pack.kind = MOIRA_PACK_EXPERT;
    pack.n = layer.desc.inner;
    pack.k = layer.desc.hidden;
    pack.compute = MOIRA_COMPUTE_AUTO;
    pack.quantization = layer.desc.quantization;
    const std::array sources = {source_of(expert.gate, expert.gate_bias), source_of(expert.up, expert.up_bias),
                                source_of(expert.down, expert.down_bias)};
    const packed_weight packed = session.pack(pack, sources);
    return {reinterpret_cast<std::uint64_t>(packed.address), generation, packed.layout_id};
}

std::vector<moira_expert_entry> load_table(device_session& session, const expert_layer& layer) {
    std::vector<moira_expert_entry> table;
    for (std::uint32_t expert = 0; expert < layer.desc.experts; ++expert)
        table.push_back(load(session, layer, layer.experts[expert], expert + 10));
    // Expert 0 is never used by a case: its entry stays empty.
    table[0] = {};
    return table;
}

/// The groups cut down to the pairs of the slice; those without any stay, as empty groups.
std::vector<moira_expert_group> groups_in(const expert_layer& layer, row_slice slice) {
    std::vector<moira_expert_group> groups;
    std::uint32_t first = 0;
    for (const group_size& group : layer.groups) {
        const std::uint32_t begin = std::max(first, slice.begin);
        const std::uint32_t end = std::min(first + group.pairs, slice.begin + slice.count);
        const std::uint32_t count = begin < end ? end - begin : 0;
        groups.push_back({group.expert, group.expert + 10, count > 0 ? begin - slice.begin : 0, count});
        first += group.pairs;
    }
    return groups;
}

case_output run_layer(const expert_layer& layer, device_session& session, row_slice slice) {
    const auto table = load_table(session, layer);
    const auto groups = groups_in(layer, slice);
    std::vector<moira_expert_pair> pairs;
    for (std::uint32_t pair = 0; pair < slice.count; ++pair) // results go to other rows than inputs come from
        pairs.push_back(
            {static_cast<std::int32_t>(slice.begin + pair), static_cast<std::int32_t>(slice.count - 1 - pair)});
    moira_expert_ffn_args args{};
    args.groups = static_cast<std::uint32_t>(groups.size());
    args.pairs = slice.count;
    args.x = session.upload(layer.x);
    args.x_stride = layer.desc.hidden;
    args.table = session.upload(table);
    args.group_table = session.upload(groups);
    args.pair_table = session.upload(pairs);
    args.out = session.reserve(std::uint64_t{slice.count} * layer.desc.hidden);
    args.out_stride = layer.desc.hidden;
    case_output out;
    out.error = session.run(for_rows(layer.desc, slice.count).header, args, &args.workspace);
    const auto all = session.download(args.out, std::uint64_t{slice.count} * layer.desc.hidden);
    for (std::uint32_t pair = 0; pair < slice.count; ++pair) {
        const auto begin = all.end() - std::int64_t{pair + 1} * layer.desc.hidden;
        out.values.insert(out.values.end(), begin, begin + layer.desc.hidden);
    }
    return out;
}

/// The expert of each pair of the slice.
std::vector<std::int32_t> experts_in(const expert_layer& layer, row_slice slice) {
    std::vector<std::int32_t> experts;
    for (const group_size& group : layer.groups)
        experts.insert(experts.end(), group.pairs, static_cast<std::int32_t>(group.expert));
    return rows_of(experts, 1, slice.begin, slice.count);
}

/// Groups, pairs and their number are made on the device, in the list that uses them.
case_output run_counted(const expert_layer& layer, device_session& session, row_slice slice) {
    const std::uint32_t hidden = layer.desc.hidden;
    auto sort = make_desc<moira_expert_groups_desc>(MOIRA_OP_EXPERT_GROUPS, slice.count);
    sort.experts = layer.desc.experts;
    sort.top_k = 1;
    moira_expert_groups_args sorted{};
    sorted.rows = slice.count;
    sorted.generation_stride = sizeof(moira_expert_entry) / sizeof(std::uint32_t);
    sorted.ids = session.upload(experts_in(layer, slice));
    const moira_expert_entry* table = session.upload(load_table(session, layer));
    sorted.generations = &table->generation;
    sorted.group_table = session.upload(std::vector<moira_expert_group>(layer.desc.experts));
    sorted.pair_table = session.upload(std::vector<moira_expert_pair>(slice.count));
    sorted.group_count = session.upload(std::vector<std::uint32_t>{0});
    moira_expert_ffn_args args{};
    args.groups = layer.desc.experts;
    args.pairs = slice.count;
    args.x = session.upload(rows_of(layer.x, hidden, slice.begin, slice.count));
    args.x_stride = args.out_stride = hidden;
    args.table = table;
    args.group_table = sorted.group_table;
    args.pair_table = sorted.pair_table;
    args.group_count = sorted.group_count;
    args.out = session.reserve(std::uint64_t{slice.count} * hidden);
    const moira_op* sorter = session.prepare(sort.header, &sorted.workspace);
    const moira_op* experts = session.prepare(for_rows(layer.desc, slice.count).header, &args.workspace);
    session.launch({{sorter, &sorted}, {experts, &args}});
    case_output out;
    out.error = session.finish();
    out.values = session.download(args.out, std::uint64_t{slice.count} * hidden);
    return out;
}

void add_experts(std::vector<op_case>& cases, const expert_shape& given, const moira_quantization& quantization) {
    std::uint32_t pairs = 0;
    for (const group_size& group : given.groups)
        pairs += group.pairs;
    auto layer = std::make_shared<expert_layer>();
    layer->desc = make_desc<moira_expert_ffn_desc>(MOIRA_OP_EXPERT_FFN, pairs);
    layer->desc.hidden = given.hidden;
    layer->desc.inner = given.inner;
    layer->desc.experts = given.experts;
    layer->desc.activation = given.activation;
    layer->desc.alpha = given.activation == MOIRA_FFN_CLAMPED_SWIGLU ? 1.702f : 0.0f;
    layer->desc.limit = given.activation == MOIRA_FFN_CLAMPED_SWIGLU ? 0.5f : 0.0f;
    layer->desc.quantization = quantization;
    for (std::uint32_t expert = 0; expert < given.experts; ++expert)
        layer->experts.push_back(random_expert(expert * 10, layer->desc, given.biases));
    layer->groups = given.groups;
    layer->x = random_floats(given.hidden, std::size_t{pairs} * given.hidden, 2.0f);
    const std::string name = "expert_ffn " + type_name(quantization.weight_type) + " " + std::to_string(pairs) +
                             " pairs " + std::to_string(given.hidden) + "x" + std::to_string(given.inner) +
                             (given.activation == MOIRA_FFN_CLAMPED_SWIGLU ? " clamped" : "") +
                             (given.biases ? " biases" : "");
    cases.push_back({name, desc_bytes(layer->desc), quantization.weight_type != MOIRA_TYPE_F32, pairs, given.hidden, 0,
                     [layer](device_session& session, row_slice slice) { return run_layer(*layer, session, slice); }});
    cases.push_back(cases.back());
    cases.back().name += " counted";
    cases.back().run = [layer](device_session& session, row_slice slice) {
        return run_counted(*layer, session, slice);
    };
}

} // namespace

void add_expert_cases(std::vector<op_case>& cases) {
    const std::vector<group_size> ragged = {{3, 2}, {1, 0}, {4, 5}, {2, 1}};
    const moira_quantization types[] = {plain(MOIRA_TYPE_F32), plain(MOIRA_TYPE_BF16), plain(MOIRA_TYPE_F16),
                                        block_f8()};
    for (const auto& type : types) {
        add_experts(cases, {1, 1, 2, MOIRA_FFN_SILU_GATED, false, {{1, 2}}}, type);
        add_experts(cases, {64, 64, 5, MOIRA_FFN_SILU_GATED, false, ragged}, type);
        add_experts(cases, {33, 71, 5, MOIRA_FFN_CLAMPED_SWIGLU, true, ragged}, type);
        add_experts(cases, {160, 130, 3, MOIRA_FFN_SILU_GATED, false, {{2, 9}, {1, 8}}}, type); // for a team
        if (type.scale_mode ==
            MOIRA_SCALE_BLOCK) // gate and up end within a block where down begins one, and the reverse
            for (const std::uint32_t hidden : {129u, 256u})
                for (const std::uint32_t inner : {127u, 130u, 257u})
                    add_experts(cases, {hidden, inner, 5, MOIRA_FFN_SILU_GATED, false, ragged}, type);
        add_experts(cases, {48, 32, 6, MOIRA_FFN_CLAMPED_SWIGLU, false, {{5, 0}, {4, 0}, {3, 1}}}, type);
    }
}

void add_expert_sweep(std::vector<op_case>& cases, std::uint32_t rows) {
    // One expert has half of the pairs, as routers do, and one none.
    const std::vector<group_size> ragged = {{3, rows / 2}, {1, 0}, {4, rows / 8}, {2, rows - rows / 2 - rows / 8}};
    for (const auto& type : {plain(MOIRA_TYPE_F32), plain(MOIRA_TYPE_BF16), plain(MOIRA_TYPE_F16), block_f8()}) {
        add_experts(cases, {160, 130, 5, MOIRA_FFN_SILU_GATED, false, ragged}, type);
        add_experts(cases, {64, 64, 3, MOIRA_FFN_CLAMPED_SWIGLU, true, {{2, rows}}}, type);
    }
}

} // namespace moira
