// What kernels must notice on the device, because the host learns of it too late.
#include "plugins/conformance/checks.hpp"

#include <array>
#include <optional>

namespace moira {
namespace {

std::string words(const moira_error_word& word) {
    return "code " + std::to_string(word.code) + ", op " + std::to_string(word.op) + ", row " +
           std::to_string(word.row);
}

/// The experiment must have set `code` for `op`, or nothing for MOIRA_ERROR_NONE. `row`: which one, if it is defined.
void expect_word(const device_session& session, const moira_error_word& word, std::uint32_t code, std::uint32_t op,
                 std::optional<std::int32_t> row, const std::string& what, check_log& log) {
    const bool right = word.code == code && (code == MOIRA_ERROR_NONE || word.op == op) && (!row || word.row == *row);
    log.expect(!session.failed() && right, op_name(op), "errors",
               what + ": " + (session.failed() ? session.failure() : words(word)));
}

// ---- tokens, positions, slots

moira_error_word embed(device_session& session, const std::vector<std::int32_t>& ids) {
    auto desc = make_desc<moira_embedding_desc>(MOIRA_OP_EMBEDDING, static_cast<std::uint32_t>(ids.size()));
    desc.vocabulary = 5;
    desc.width = 8;
    desc.weight_type = MOIRA_TYPE_F32;
    moira_embedding_args args{};
    args.rows = desc.header.rows_max;
    args.token_ids = session.upload(ids);
    args.table = session.upload(random_floats(1, std::size_t{desc.vocabulary} * desc.width));
    args.out = session.reserve(ids.size() * desc.width);
    return session.run(desc.header, args);
}

void check_tokens(const op_provider& tested, check_log& log) {
    device_session session(tested);
    constexpr std::uint32_t op = MOIRA_OP_EMBEDDING;
    constexpr std::uint32_t wrong = MOIRA_ERROR_TOKEN_OUT_OF_RANGE;
    expect_word(session, embed(session, {0, 4}), MOIRA_ERROR_NONE, op, {}, "good ids", log);
    expect_word(session, embed(session, {0, 5, 1}), wrong, op, 1, "an id equal to the vocabulary", log);
    expect_word(session, embed(session, {-1, 5}), wrong, op, {}, "a negative id", log);
    expect_word(session, embed(session, {0, INT32_MIN}), wrong, op, 1, "the smallest id", log);
    expect_word(session, embed(session, {1, 2}), MOIRA_ERROR_NONE, op, {}, "the word clears when it is read", log);
}

void check_rope_positions(const op_provider& tested, check_log& log) {
    for (const std::int32_t position : {0, 3, 4, -1}) {
        device_session session(tested);
        auto desc = make_desc<moira_rope_desc>(MOIRA_OP_ROPE, 2);
        desc.heads = 1;
        desc.width = 4;
        desc.positions = 4;
        moira_rope_args args{};
        args.rows = 2;
        args.x = session.upload(random_floats(1, 8));
        args.row_stride = 4;
        args.head_stride = 4;
        args.positions = session.upload(std::vector<std::int32_t>{0, position});
        args.table = session.upload(random_floats(2, 16));
        const moira_error_word word = session.run(desc.header, args);
        // Which code a position outside the table gets is the plugin's business; reading outside it is not.
        const bool outside = position < 0 || position > 3;
        log.expect(!session.failed() && (word.code != MOIRA_ERROR_NONE) == outside, "rope", "errors",
                   "position " + std::to_string(position) +
                       " of 4: " + (session.failed() ? session.failure() : words(word)));
    }
}

void check_slots(const op_provider& tested, check_log& log) {
    for (const std::int32_t slot : {0, 3, 4, -1}) {
        device_session session(tested);
        auto desc = make_desc<moira_kv_append_desc>(MOIRA_OP_KV_APPEND, 2);
        desc.width = 8;
        desc.slots = 4;
        moira_kv_append_args args{};
        args.rows = 2;
        args.in = session.upload(random_floats(1, 16));
        args.in_stride = 8;
        args.slots = session.upload(std::vector<std::int32_t>{1, slot});
        args.pool = session.reserve(32);
        args.slot_stride = 8;
        const moira_error_word word = session.run(desc.header, args);
        const bool outside = slot < 0 || slot > 3;
        expect_word(session, word, outside ? MOIRA_ERROR_PAGE_OUT_OF_RANGE : MOIRA_ERROR_NONE, MOIRA_OP_KV_APPEND,
                    outside ? std::optional<std::int32_t>(1) : std::nullopt, "slot " + std::to_string(slot) + " of 4",
                    log);
    }
}

// ---- pages

constexpr std::uint32_t page_tokens = 2;
constexpr std::uint32_t pages = 4;
constexpr std::uint32_t context_max = 8;

moira_attention_args attention_args(device_session& session, const moira_attention_row& row,
                                    const std::vector<std::int32_t>& page_table, std::uint32_t q_width,
                                    std::uint32_t slot_width, std::uint32_t out_width) {
    moira_attention_args args{};
    args.rows = 2;
    args.page_table_entries = static_cast<std::uint32_t>(page_table.size());
    args.q = session.upload(random_floats(1, std::size_t{2} * q_width));
    args.q_stride = q_width;
    args.row_table = session.upload(std::vector<moira_attention_row>{{0, 1, 0, -1}, row});
    args.kv.pool = session.upload(random_floats(2, std::size_t{pages} * page_tokens * slot_width));
    args.kv.slot_stride = slot_width;
    args.kv.page_table = session.upload(page_table);
    args.out = session.reserve(std::size_t{2} * out_width);
    args.out_stride = out_width;
    return args;
}

moira_error_word attend_gqa(device_session& session, const moira_attention_row& row,
                            const std::vector<std::int32_t>& page_table) {
    auto desc = make_desc<moira_attention_gqa_desc>(MOIRA_OP_ATTENTION_GQA, 2);
    desc.heads = desc.kv_heads = 1;
    desc.head_dim = 8;
    desc.page_tokens = page_tokens;
    desc.pages = pages;
    desc.context_max = context_max;
    desc.scale = 1.0f;
    moira_attention_args args = attention_args(session, row, page_table, 8, 16, 8);
    args.kv.value_offset = 8;
    return session.run(desc.header, args, &args.workspace);
}

moira_error_word attend_mla(device_session& session, const moira_attention_row& row,
                            const std::vector<std::int32_t>& page_table) {
    auto desc = make_desc<moira_attention_mla_desc>(MOIRA_OP_ATTENTION_MLA, 2);
    desc.heads = 1;
    desc.key_dim = desc.value_dim = desc.kv_rank = 4;
    desc.rope_dim = 2;
    desc.page_tokens = page_tokens;
    desc.pages = pages;
    desc.context_max = context_max;
    desc.scale = 1.0f;
    desc.quantization = plain(MOIRA_TYPE_F32);
    moira_pack_desc pack{};
    pack.struct_size = sizeof pack;
    pack.kind = MOIRA_PACK_MLA_KV;
    pack.n = 8;
    pack.k = 4;
    pack.heads = 1;
    pack.key_dim = pack.value_dim = 4;
    pack.compute = MOIRA_COMPUTE_AUTO;
    pack.quantization = desc.quantization;
    const stored_weight weight = random_weight(3, desc.quantization, 8, 4);
    const moira_pack_source source{weight.bytes.data(), nullptr, nullptr};
    moira_attention_args args = attention_args(session, row, page_table, 6, 6, 4);
    args.weight = session.pack(pack, {&source, 1}).address;
    return session.run(desc.header, args, &args.workspace);
}

void check_pages(const op_provider& tested, check_log& log) {
    struct page_experiment {
        const char* what;
        moira_attention_row row;
        std::vector<std::int32_t> page_table;
        bool good;
    };
    const std::vector<page_experiment> experiments = {
        {"good pages", {3, 4, 1, -1}, {0, 2, 3}, true},
        {"a page equal to the number of pages", {3, 4, 1, -1}, {0, 2, 4}, false},
        {"a negative page", {3, 4, 1, -1}, {0, -1, 3}, false},
        {"a bad page that the row does not see", {1, 2, 1, -1}, {0, 2, 99}, true},
        {"a page table that ends too soon", {5, 6, 1, -1}, {0, 2, 3}, false},
        {"a negative page table offset", {1, 2, -1, -1}, {0, 2, 3}, false},
        {"an offset behind the page table", {1, 2, 7, -1}, {0, 2, 3}, false},
        {"a context over context_max", {8, 9, 0, -1}, {0, 1, 2, 3, 0}, false},
        {"a negative context", {1, -2, 0, -1}, {0, 2, 3}, false},
    };
    for (const page_experiment& each : experiments) {
        const std::uint32_t code = each.good ? MOIRA_ERROR_NONE : MOIRA_ERROR_PAGE_OUT_OF_RANGE;
        const auto row = each.good ? std::nullopt : std::optional<std::int32_t>(1);
        device_session gqa(tested);
        expect_word(gqa, attend_gqa(gqa, each.row, each.page_table), code, MOIRA_OP_ATTENTION_GQA, row, each.what, log);
        device_session mla(tested);
        expect_word(mla, attend_mla(mla, each.row, each.page_table), code, MOIRA_OP_ATTENTION_MLA, row, each.what, log);
    }
}

// ---- experts

constexpr std::uint32_t hidden = 8;
constexpr std::uint32_t inner = 16;

/// A layer of three experts: entry 0 empty, 1 and 2 loaded with generation 5.
struct small_layer {
    moira_expert_ffn_desc desc = make_desc<moira_expert_ffn_desc>(MOIRA_OP_EXPERT_FFN, 4);
    std::vector<moira_expert_entry> table;

    explicit small_layer(device_session& session) : table(3) {
        desc.hidden = hidden;
        desc.inner = inner;
        desc.experts = 3;
        desc.quantization = plain(MOIRA_TYPE_F32);
        moira_pack_desc pack{};
        pack.struct_size = sizeof pack;
        pack.kind = MOIRA_PACK_EXPERT;
        pack.n = inner;
        pack.k = hidden;
        pack.compute = MOIRA_COMPUTE_AUTO;
        pack.quantization = desc.quantization;
        const stored_weight gate = random_weight(1, desc.quantization, inner, hidden);
        const stored_weight down = random_weight(2, desc.quantization, hidden, inner);
        const std::array<moira_pack_source, 3> sources = {{{gate.bytes.data(), nullptr, nullptr},
                                                           {gate.bytes.data(), nullptr, nullptr},
                                                           {down.bytes.data(), nullptr, nullptr}}};
        for (std::uint32_t expert = 1; expert < 3; ++expert) {
            const packed_weight packed = session.pack(pack, sources);
            table[expert] = {reinterpret_cast<std::uint64_t>(packed.address), 5, packed.layout_id};
        }
    }

    moira_error_word run(device_session& session, const std::vector<moira_expert_group>& groups) const {
        moira_expert_ffn_args args{};
        args.groups = static_cast<std::uint32_t>(groups.size());
        args.pairs = 4;
        args.x = session.upload(random_floats(1, 4 * hidden));
        args.x_stride = hidden;
        args.table = session.upload(table);
        args.group_table = session.upload(groups);
        args.pair_table = session.upload(std::vector<moira_expert_pair>{{0, 0}, {1, 1}, {2, 2}, {3, 3}});
        args.out = session.reserve(4 * hidden);
        args.out_stride = hidden;
        return session.run(desc.header, args, &args.workspace);
    }
};

void check_experts(const op_provider& tested, check_log& log) {
    device_session session(tested);
    small_layer layer(session);
    const auto expect = [&](const std::vector<moira_expert_group>& groups, std::uint32_t code,
                            std::optional<std::int32_t> row, const char* what) {
        expect_word(session, layer.run(session, groups), code, MOIRA_OP_EXPERT_FFN, row, what, log);
    };
    expect({{1, 5, 0, 2}, {2, 5, 2, 2}}, MOIRA_ERROR_NONE, {}, "resident experts");
    expect({{1, 5, 0, 2}, {0, 0, 2, 2}}, MOIRA_ERROR_EXPERT_EMPTY, 1, "an entry without an address");
    expect({{1, 4, 0, 2}, {2, 5, 2, 2}}, MOIRA_ERROR_EXPERT_STALE, 0, "an older generation");
    expect({{1, 6, 0, 2}, {2, 5, 2, 2}}, MOIRA_ERROR_EXPERT_STALE, 0, "a newer generation");
    expect({{1, 5, 0, 4}, {0, 0, 4, 0}}, MOIRA_ERROR_NONE, {}, "a group without pairs reads no entry");
    expect({{1, 5, 0, 2}, {3, 5, 2, 2}}, MOIRA_ERROR_EXPERT_EMPTY, 1, "an expert outside the table");
    expect({{1, 4, 0, 2}, {0, 0, 2, 2}}, MOIRA_ERROR_EXPERT_STALE, 0, "the first of two errors wins");
    expect({{2, 5, 0, 4}}, MOIRA_ERROR_NONE, {}, "the word clears when it is read");
    const std::uint32_t layout = layer.table[1].layout_id;
    layer.table[1].layout_id = layout + 1;
    expect({{1, 5, 0, 4}}, MOIRA_ERROR_EXPERT_STALE, 0, "a slab in another layout");
}

void check_unknown_experts(const op_provider& tested, check_log& log) {
    const auto sort = [&](const std::vector<std::int32_t>& ids, std::uint32_t code, std::optional<std::int32_t> row,
                          const char* what) {
        device_session session(tested);
        auto desc = make_desc<moira_expert_groups_desc>(MOIRA_OP_EXPERT_GROUPS, 3);
        desc.experts = 5;
        desc.top_k = 2;
        moira_expert_groups_args args{};
        args.rows = 3;
        args.generation_stride = 1;
        args.ids = session.upload(ids);
        args.generations = session.upload(std::vector<std::uint32_t>(5, 1));
        args.group_table = session.upload(std::vector<moira_expert_group>(5));
        args.pair_table = session.upload(std::vector<moira_expert_pair>(6));
        args.group_count = session.upload(std::vector<std::uint32_t>{0});
        expect_word(session, session.run(desc.header, args, &args.workspace), code, MOIRA_OP_EXPERT_GROUPS, row, what,
                    log);
        const bool bad = code != MOIRA_ERROR_NONE;
        const auto last = session.download(args.pair_table, 6).back();
        log.expect(!session.failed() && (last.row == -1) == bad, "expert_groups", "errors",
                   "an id without a group has no pair");
    };
    sort({0, 4, 1, 2, 3, 0}, MOIRA_ERROR_NONE, {}, "known experts");
    sort({0, 4, 1, 5, 3, INT32_MAX}, MOIRA_ERROR_EXPERT_EMPTY, 1, "an id equal to the number of experts");
}

} // namespace

void check_error_words(const op_provider& tested, check_log& log) {
    check_tokens(tested, log);
    check_rope_positions(tested, log);
    check_slots(tested, log);
    check_pages(tested, log);
    check_experts(tested, log);
    check_unknown_experts(tested, log);
}

} // namespace moira
