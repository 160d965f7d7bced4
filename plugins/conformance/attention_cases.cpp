// Cases of attention over paged keys and values. Slots that no row may see hold NaN: a kernel that reads one shows it.
#include "plugins/conformance/op_case.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>

namespace moira {
namespace {

constexpr std::uint32_t page_tokens = 4;

/// A step with one chunk of prefill, a first token, and a long decode; pages lie shuffled in the pool.
struct paged_step {
    std::uint32_t pages; // in the pool
    std::vector<moira_attention_row> rows;
    std::vector<std::int32_t> page_table;
    std::vector<std::uint32_t> used_slots;
};

struct sequence_shape {
    std::int32_t tokens;    // in the cache
    std::int32_t first_row; // position of its first row in this step
};

paged_step make_step(const std::vector<sequence_shape>& sequences, std::uint32_t pages) {
    paged_step step;
    step.pages = pages;
    std::int32_t next_page = 0;
    for (const sequence_shape& sequence : sequences) {
        const auto offset = static_cast<std::int32_t>(step.page_table.size());
        for (std::int32_t token = 0; token < sequence.tokens; ++token) {
            if (token % static_cast<std::int32_t>(page_tokens) == 0) {
                // 7 and `pages` share no factor: all pages in an order of their own.
                step.page_table.push_back((next_page++ * 7 + 3) % static_cast<std::int32_t>(pages));
            }
            step.used_slots.push_back(static_cast<std::uint32_t>(step.page_table.back()) * page_tokens +
                                      static_cast<std::uint32_t>(token) % page_tokens);
        }
        for (std::int32_t position = sequence.first_row; position < sequence.tokens; ++position)
            step.rows.push_back({position, position + 1, offset, -1});
    }
    return step;
}

std::vector<std::byte> fill_pool(const paged_step& step, std::uint32_t kv_type, std::uint32_t slot_width,
                                 std::uint32_t slot_stride, float scale) {
    std::vector<float> pool(std::size_t{step.pages} * page_tokens * slot_stride,
                            std::numeric_limits<float>::quiet_NaN());
    std::uint64_t seed = 1;
    for (const std::uint32_t slot : step.used_slots) {
        const auto values = random_floats(seed++, slot_width, scale);
        std::copy(values.begin(), values.end(), pool.begin() + std::int64_t{slot} * slot_stride);
    }
    std::vector<std::byte> bytes(pool.size() * element_bytes(kv_type));
    if (kv_type == MOIRA_TYPE_F32) {
        std::memcpy(bytes.data(), pool.data(), bytes.size());
        return bytes;
    }
    for (std::size_t i = 0; i < pool.size(); ++i) { // cut: any number of BF16 will do
        const auto upper = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(pool[i]) >> 16);
        std::memcpy(bytes.data() + 2 * i, &upper, sizeof upper);
    }
    return bytes;
}

std::string kv_text(std::uint32_t kv_type) {
    return kv_type == MOIRA_TYPE_F32 ? "" : " kv " + type_name(kv_type);
}

/// What both kinds of attention have in common in a launch.
struct attention_data {
    paged_step step;
    std::uint32_t slot_stride;
    std::vector<std::byte> pool;
    std::uint32_t q_stride;
    std::vector<float> q;
    std::uint32_t out_width;
};

moira_attention_args make_args(const attention_data& data, device_session& session, row_slice slice) {
    moira_attention_args args{};
    args.rows = slice.count;
    args.page_table_entries = static_cast<std::uint32_t>(data.step.page_table.size());
    args.q = session.upload(rows_of(data.q, data.q_stride, slice.begin, slice.count));
    args.q_stride = data.q_stride;
    args.row_table = session.upload(rows_of(data.step.rows, 1, slice.begin, slice.count));
    args.kv.pool = session.upload(data.pool);
    args.kv.slot_stride = data.slot_stride;
    args.kv.page_table = session.upload(data.step.page_table);
    args.out = session.reserve(std::uint64_t{slice.count} * data.out_width);
    args.out_stride = data.out_width;
    return args;
}

struct gqa_shape {
    std::uint32_t heads;
    std::uint32_t kv_heads;
    std::uint32_t head_dim;
    std::uint32_t window;
    bool sinks;
    std::vector<sequence_shape> sequences;
    std::uint32_t kv_type = MOIRA_TYPE_F32;
    std::uint32_t pages = 40;
};

void add_gqa(std::vector<op_case>& cases, const gqa_shape& given) {
    auto data = std::make_shared<attention_data>();
    data->step = make_step(given.sequences, given.pages);
    const auto rows = static_cast<std::uint32_t>(data->step.rows.size());
    auto desc = make_desc<moira_attention_gqa_desc>(MOIRA_OP_ATTENTION_GQA, rows);
    desc.heads = given.heads;
    desc.kv_heads = given.kv_heads;
    desc.head_dim = given.head_dim;
    desc.kv_type = given.kv_type;
    desc.page_tokens = page_tokens;
    desc.pages = given.pages;
    desc.context_max = 128;
    desc.window = given.window;
    desc.sinks = given.sinks ? 1 : 0;
    desc.scale = 3.0f / std::sqrt(static_cast<float>(given.head_dim));
    const std::uint32_t keys = given.kv_heads * given.head_dim;
    data->slot_stride = 2 * keys + 5;
    data->pool = fill_pool(data->step, given.kv_type, 2 * keys, data->slot_stride, 1.7f);
    data->q_stride = given.heads * given.head_dim + 1;
    data->q = random_floats(given.head_dim, std::size_t{rows} * data->q_stride, 1.7f);
    data->out_width = given.heads * given.head_dim;
    const auto sinks = random_floats(7, given.heads, 2.0f);
    const std::string name = "attention_gqa " + std::to_string(rows) + " rows " + std::to_string(given.heads) + "/" +
                             std::to_string(given.kv_heads) + " heads of " + std::to_string(given.head_dim) +
                             (given.window ? " window " + std::to_string(given.window) : "") +
                             (given.sinks ? " sinks" : "") + kv_text(given.kv_type);
    cases.push_back({name, desc_bytes(desc), desc.kv_type == MOIRA_TYPE_BF16, rows, data->out_width, 0,
                     [=](device_session& session, row_slice slice) {
                         moira_attention_args args = make_args(*data, session, slice);
                         args.kv.value_offset = keys;
                         args.sinks = desc.sinks ? session.upload(sinks) : nullptr;
                         case_output out;
                         out.error = session.run(for_rows(desc, slice.count).header, args, &args.workspace);
                         out.values = session.download(args.out, std::uint64_t{slice.count} * data->out_width);
                         return out;
                     }});
}

struct mla_shape {
    std::uint32_t heads;
    std::uint32_t key_dim;
    std::uint32_t rope_dim;
    std::uint32_t value_dim;
    std::uint32_t kv_rank;
    std::vector<sequence_shape> sequences;
    std::uint32_t kv_type = MOIRA_TYPE_F32;
    std::uint32_t pages = 40;
};

moira_pack_desc pack_desc_of(const moira_attention_mla_desc& desc) {
    moira_pack_desc pack{};
    pack.struct_size = sizeof pack;
    pack.kind = MOIRA_PACK_MLA_KV;
    pack.n = desc.heads * (desc.key_dim + desc.value_dim);
    pack.k = desc.kv_rank;
    pack.heads = desc.heads;
    pack.key_dim = desc.key_dim;
    pack.value_dim = desc.value_dim;
    pack.compute = MOIRA_COMPUTE_AUTO;
    pack.quantization = desc.quantization;
    return pack;
}

void add_mla(std::vector<op_case>& cases, const mla_shape& given, const moira_quantization& quantization) {
    auto data = std::make_shared<attention_data>();
    data->step = make_step(given.sequences, given.pages);
    const auto rows = static_cast<std::uint32_t>(data->step.rows.size());
    auto desc = make_desc<moira_attention_mla_desc>(MOIRA_OP_ATTENTION_MLA, rows);
    desc.heads = given.heads;
    desc.key_dim = given.key_dim;
    desc.rope_dim = given.rope_dim;
    desc.value_dim = given.value_dim;
    desc.kv_rank = given.kv_rank;
    desc.kv_type = given.kv_type;
    desc.page_tokens = page_tokens;
    desc.pages = given.pages;
    desc.context_max = 128;
    desc.scale = 1.0f / std::sqrt(static_cast<float>(given.key_dim + given.rope_dim));
    desc.quantization = quantization;
    data->slot_stride = given.kv_rank + given.rope_dim + 3;
    data->pool = fill_pool(data->step, given.kv_type, given.kv_rank + given.rope_dim, data->slot_stride, 1.7f);
    const std::uint32_t q_width = given.heads * (given.key_dim + given.rope_dim);
    data->q_stride = q_width + 2;
    data->q = random_floats(given.key_dim, std::size_t{rows} * data->q_stride, 1.7f);
    data->out_width = given.heads * given.value_dim;
    const auto weight = std::make_shared<const stored_weight>(
        random_weight(given.kv_rank, quantization, given.heads * (given.key_dim + given.value_dim), given.kv_rank));
    const std::string name = "attention_mla " + type_name(quantization.weight_type) + " " + std::to_string(rows) +
                             " rows " + std::to_string(given.heads) + " heads " + std::to_string(given.key_dim) + "+" +
                             std::to_string(given.rope_dim) + " rank " + std::to_string(given.kv_rank) +
                             kv_text(given.kv_type);
    cases.push_back({name, desc_bytes(desc),
                     quantization.weight_type != MOIRA_TYPE_F32 || desc.kv_type == MOIRA_TYPE_BF16, rows,
                     data->out_width, 0, [=](device_session& session, row_slice slice) {
                         const moira_pack_source source{weight->bytes.data(), nullptr, nullptr};
                         moira_attention_args args = make_args(*data, session, slice);
                         args.weight = session.pack(pack_desc_of(desc), {&source, 1}).address;
                         case_output out;
                         out.error = session.run(for_rows(desc, slice.count).header, args, &args.workspace);
                         out.values = session.download(args.out, std::uint64_t{slice.count} * data->out_width);
                         return out;
                     }});
}

} // namespace

void add_attention_cases(std::vector<op_case>& cases) {
    const std::vector<sequence_shape> mixed = {{13, 9}, {1, 0}, {61, 60}};
    add_gqa(cases, {1, 1, 1, 0, false, {{5, 0}}});
    add_gqa(cases, {4, 2, 16, 0, false, mixed});
    add_gqa(cases, {6, 2, 33, 0, true, mixed});
    add_gqa(cases, {4, 4, 64, 5, false, mixed});
    add_gqa(cases, {4, 1, 20, 8, true, mixed});
    add_gqa(cases, {8, 2, 64, 0, false, {{40, 0}}}); // large enough for a team
    add_gqa(cases, {1, 1, 1, 0, false, {{5, 0}}, MOIRA_TYPE_BF16});
    add_gqa(cases, {6, 2, 33, 0, true, mixed, MOIRA_TYPE_BF16});
    add_gqa(cases, {24, 1, 20, 8, true, mixed, MOIRA_TYPE_BF16}); // more heads than are computed together
    add_gqa(cases, {8, 2, 160, 0, false, {{40, 0}}, MOIRA_TYPE_BF16});
    add_gqa(cases, {7, 1, 64, 0, true, {{101, 97}}, MOIRA_TYPE_BF16});
    for (const std::uint32_t type : {MOIRA_TYPE_F32, MOIRA_TYPE_BF16}) {
        add_mla(cases, {1, 1, 0, 1, 1, {{5, 0}}, MOIRA_TYPE_BF16}, plain(type));
        add_mla(cases, {2, 17, 6, 19, 37, mixed, MOIRA_TYPE_BF16}, plain(type));
        add_mla(cases, {20, 32, 16, 32, 64, {{40, 35}}, MOIRA_TYPE_BF16}, plain(type));
    }
    for (const std::uint32_t type : {MOIRA_TYPE_F32, MOIRA_TYPE_BF16, MOIRA_TYPE_F16}) {
        add_mla(cases, {1, 1, 0, 1, 1, {{5, 0}}}, plain(type));
        add_mla(cases, {3, 16, 8, 12, 32, mixed}, plain(type));
        add_mla(cases, {2, 17, 6, 19, 37, mixed}, plain(type));
        add_mla(cases, {4, 32, 16, 32, 64, {{40, 0}}}, plain(type)); // large enough for a team
    }
}

namespace {

/// Rows of all kinds: a chunk of prefill, a first token, a long decode, then whole prompts.
std::vector<sequence_shape> sequences_of(std::uint32_t rows) {
    std::vector<sequence_shape> sequences = {{13, 9}, {1, 0}, {61, 60}};
    for (std::uint32_t made = 6; made < rows;) {
        const std::uint32_t count = std::min(rows - made, 100u);
        sequences.push_back({static_cast<std::int32_t>(count), 0});
        made += count;
    }
    return sequences;
}

} // namespace

void add_attention_sweep(std::vector<op_case>& cases, std::uint32_t rows) {
    const auto mixed = sequences_of(rows);
    const std::uint32_t pages = rows / page_tokens + 32; // of whole prompts, and what the first three hold
    add_gqa(cases, {4, 2, 16, 0, false, mixed, MOIRA_TYPE_F32, pages});
    add_gqa(cases, {8, 2, 64, 0, false, mixed, MOIRA_TYPE_BF16, pages});
    add_gqa(cases, {4, 1, 128, 8, true, mixed, MOIRA_TYPE_BF16, pages});
    add_mla(cases, {4, 32, 16, 32, 64, mixed, MOIRA_TYPE_F32, pages}, plain(MOIRA_TYPE_F32));
    add_mla(cases, {4, 32, 16, 32, 64, mixed, MOIRA_TYPE_BF16, pages}, plain(MOIRA_TYPE_BF16));
}

std::vector<op_case> sweep_cases(std::uint32_t rows) {
    std::vector<op_case> cases;
    add_row_op_sweep(cases, rows);
    add_attention_sweep(cases, rows);
    add_gemm_sweep(cases, rows);
    add_expert_sweep(cases, rows);
    return cases;
}

std::vector<op_case> all_cases() {
    std::vector<op_case> cases;
    add_row_op_cases(cases);
    add_router_cases(cases);
    add_attention_cases(cases);
    add_gemm_cases(cases);
    add_expert_cases(cases);
    add_expert_group_cases(cases);
    return cases;
}

} // namespace moira
