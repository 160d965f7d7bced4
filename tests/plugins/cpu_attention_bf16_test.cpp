// Attention over keys and values in BF16, behind short and long contexts: long ones are split over the team.
#include "tests/plugins/cpu_plugin_session.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

using namespace moira_test;

namespace {

constexpr uint32_t context_max = 9'600; // more than eight spans of 1,024

// One sequence whose slots hold random numbers; where its pages lie depends on their size, what they hold does not.
struct long_cache {
    uint32_t page_tokens;
    uint32_t pages;
    uint64_t width;
    std::vector<uint16_t> pool;
    std::vector<int32_t> page_table;

    long_cache(uint64_t slot_width, uint32_t tokens_per_page)
        : page_tokens(tokens_per_page), pages((context_max + tokens_per_page - 1) / tokens_per_page), width(slot_width),
          pool(uint64_t{pages} * page_tokens * slot_width, 0x7FC0) {
        const uint32_t step = pages % 7 == 0 ? 11 : 7; // shares no factor with the pages
        for (uint32_t i = 0; i < pages; ++i)
            page_table.push_back(int32_t((uint64_t{i} * step + 3) % pages));
        const auto numbers = random_floats(uint64_t{context_max} * width, 3);
        for (uint32_t position = 0; position < context_max; ++position)
            for (uint64_t i = 0; i < width; ++i)
                slot(position)[i] = uint16_t(std::bit_cast<uint32_t>(numbers[position * width + i]) >> 16);
    }
    uint16_t* slot(uint32_t position) {
        const auto page = uint64_t(page_table[position / page_tokens]);
        return pool.data() + (page * page_tokens + position % page_tokens) * width;
    }
    double value(uint32_t position, uint64_t at) {
        return double(std::bit_cast<float>(uint32_t{slot(position)[at]} << 16));
    }
};

// Three long contexts, and short ones: together they are too many rows to be split.
std::vector<moira_attention_row> make_rows() {
    std::vector<moira_attention_row> rows;
    for (const int32_t length : {9'300, 8'500, 9'216, 1, 64, 65, 1'024, 1'025})
        rows.push_back({length - 1, length, 0, -1});
    for (int32_t length = 2; rows.size() < 36; length += 3)
        rows.push_back({length - 1, length, 0, -1});
    return rows;
}

template <class Desc>
void describe_pages(Desc& desc, const long_cache& cache) {
    desc.kv_type = MOIRA_TYPE_BF16;
    desc.page_tokens = cache.page_tokens;
    desc.pages = cache.pages;
    desc.context_max = context_max;
}

struct gqa_layer {
    moira_attention_gqa_desc desc = make_desc<moira_attention_gqa_desc>(MOIRA_OP_ATTENTION_GQA, 64);
    long_cache cache;
    std::vector<moira_attention_row> rows = make_rows();
    std::vector<float> sinks, q;

    gqa_layer(uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t page_tokens)
        : cache(uint64_t{kv_heads} * head_dim * 2, page_tokens), sinks(random_floats(heads, 8)),
          q(random_floats(rows.size() * heads * head_dim, 4)) {
        desc.heads = heads;
        desc.kv_heads = kv_heads;
        desc.head_dim = head_dim;
        desc.sinks = 1;
        desc.scale = 3.0f / std::sqrt(float(head_dim));
        describe_pages(desc, cache);
    }
    uint64_t out_width() const { return uint64_t{desc.heads} * desc.head_dim; }
    moira_attention_args args(cpu_plugin_session&, uint32_t first, uint32_t count, float* out) const {
        moira_attention_args made{};
        made.rows = count;
        made.page_table_entries = uint32_t(cache.page_table.size());
        made.q = q.data() + first * out_width();
        made.q_stride = out_width();
        made.row_table = rows.data() + first;
        made.kv = {cache.pool.data(), cache.width, uint64_t{desc.kv_heads} * desc.head_dim, cache.page_table.data()};
        made.sinks = sinks.data();
        made.out = out + first * out_width();
        made.out_stride = out_width();
        return made;
    }
};

struct mla_layer {
    moira_attention_mla_desc desc = make_desc<moira_attention_mla_desc>(MOIRA_OP_ATTENTION_MLA, 64);
    long_cache cache;
    stored_weight kv_b;
    std::vector<moira_attention_row> rows = make_rows();
    std::vector<float> q;

    mla_layer(uint32_t heads, uint32_t kv_rank, uint32_t rope_dim, uint32_t page_tokens)
        : cache(uint64_t{kv_rank} + rope_dim, page_tokens),
          kv_b(random_weight(MOIRA_TYPE_BF16, heads * (16 + 24), kv_rank, 6)),
          q(random_floats(rows.size() * heads * (16 + rope_dim), 4)) {
        desc.heads = heads;
        desc.key_dim = 16;
        desc.value_dim = 24;
        desc.rope_dim = rope_dim;
        desc.kv_rank = kv_rank;
        desc.scale = 0.1f;
        desc.quantization = kv_b.quantization;
        describe_pages(desc, cache);
    }
    uint64_t out_width() const { return uint64_t{desc.heads} * desc.value_dim; }
    moira_attention_args args(cpu_plugin_session& session, uint32_t first, uint32_t count, float* out) const {
        moira_pack_desc pack{};
        pack.struct_size = sizeof pack;
        pack.kind = MOIRA_PACK_MLA_KV;
        pack.n = desc.heads * (desc.key_dim + desc.value_dim);
        pack.k = desc.kv_rank;
        pack.heads = desc.heads;
        pack.key_dim = desc.key_dim;
        pack.value_dim = desc.value_dim;
        pack.quantization = kv_b.quantization;
        moira_attention_args made{};
        made.rows = count;
        made.page_table_entries = uint32_t(cache.page_table.size());
        made.q_stride = uint64_t{desc.heads} * (desc.key_dim + desc.rope_dim);
        made.q = q.data() + first * made.q_stride;
        made.row_table = rows.data() + first;
        made.kv = {cache.pool.data(), cache.width, 0, cache.page_table.data()};
        made.weight = session.pack(pack, {{kv_b.bytes.data(), nullptr, nullptr}});
        made.out = out + first * out_width();
        made.out_stride = out_width();
        return made;
    }
};

constexpr auto workspace_member = &moira_attention_args::workspace;

// The plugins that keep keys and values in BF16.
std::vector<std::string> narrow_plugins() {
    std::vector<std::string> names;
    for (const std::string& name : usable_plugins()) {
        cpu_plugin_session session(name, 1);
        auto desc = make_desc<moira_kv_append_desc>(MOIRA_OP_KV_APPEND, 1);
        desc.width = 2;
        desc.slots = 1;
        desc.kv_type = MOIRA_TYPE_BF16;
        moira_op_support support{};
        support.struct_size = sizeof support;
        REQUIRE(session.api().op_query(session.device(), &desc.header, &support) == MOIRA_OK);
        if (support.score > 0)
            names.push_back(name);
    }
    return names;
}

// Rows [first, first + count) of one launch have the bits that they have in `whole`.
template <class Layer>
void check_part(cpu_plugin_session& session, const Layer& layer, const std::vector<float>& whole, uint32_t first,
                uint32_t count) {
    CAPTURE(first);
    CAPTURE(count);
    std::vector<float> part(whole.size());
    REQUIRE(session.run(layer.desc, layer.args(session, first, count, part.data()), workspace_member) == MOIRA_OK);
    CHECK(session.error_word().code == MOIRA_ERROR_NONE);
    const uint64_t width = layer.out_width();
    CHECK(std::memcmp(whole.data() + first * width, part.data() + first * width, count * width * sizeof(float)) == 0);
}

template <class Make>
void check_bits(const Make& make) {
    for (const std::string& name : narrow_plugins()) {
        CAPTURE(name);
        const auto layer = make(16);
        const auto rows = uint32_t(layer.rows.size());
        std::vector<float> whole(rows * layer.out_width());
        cpu_plugin_session first(name, 1);
        REQUIRE(first.run(layer.desc, layer.args(first, 0, rows, whole.data()), workspace_member) == MOIRA_OK);
        for (const uint32_t team : {1u, 2u, 4u}) {
            CAPTURE(team);
            cpu_plugin_session session(name, team);
            check_part(session, layer, whole, 0, rows); // whole rows for each member
            check_part(session, layer, whole, 0, 8);    // spans for each member: one row's alone, and several rows'
            check_part(session, layer, whole, 0, 1);
            check_part(session, layer, whole, 1, 1);
            check_part(session, layer, whole, 2, 5);
            check_part(session, layer, whole, 7, 3); // short ones alone
        }
        cpu_plugin_session other(name, 2);
        check_part(other, make(1), whole, 0, 3);
        check_part(other, make(200), whole, 0, rows);
    }
}

} // namespace

TEST_CASE("grouped-query attention over BF16 agrees with double, split or not") {
    for (const std::string& name : narrow_plugins()) {
        for (const uint32_t window : {0u, 8'200u}) {
            CAPTURE(name);
            CAPTURE(window);
            cpu_plugin_session session(name, 2);
            gqa_layer layer(5, 1, 40, 16);
            layer.desc.window = window;
            std::vector<float> out(layer.rows.size() * layer.out_width());
            REQUIRE(session.run(layer.desc, layer.args(session, 0, 8, out.data()), workspace_member) == MOIRA_OK);
            for (const uint32_t row : {0u, 3u, 5u, 7u}) {
                const auto end = uint32_t(layer.rows[row].context_length);
                const uint32_t begin = window > 0 && end > window ? end - window : 0;
                const float* query = &layer.q[row * layer.out_width() + 2 * 40];
                double sum = std::exp(double(layer.sinks[2]));
                std::vector<double> expected(40, 0.0);
                for (uint32_t position = begin; position < end; ++position) {
                    double score = 0.0;
                    for (uint32_t d = 0; d < 40; ++d)
                        score += double(query[d]) * layer.cache.value(position, d);
                    const double weight = std::exp(score * double(layer.desc.scale));
                    sum += weight;
                    for (uint32_t d = 0; d < 40; ++d)
                        expected[d] += weight * layer.cache.value(position, 40 + d);
                }
                double worst = 0.0;
                for (uint32_t d = 0; d < 40; ++d)
                    worst = std::max(worst,
                                     std::fabs(expected[d] / sum - double(out[row * layer.out_width() + 2 * 40 + d])));
                CHECK(worst < 0x1p-7); // two or three roundings to BF16 of numbers below 1
            }
        }
    }
}

TEST_CASE("a row over BF16 has the same bits alone, among others, split, on any team and for any page size") {
    check_bits([](uint32_t page_tokens) { return gqa_layer(6, 2, 40, page_tokens); });
    check_bits([](uint32_t page_tokens) { return mla_layer(5, 70, 10, page_tokens); });
}

TEST_CASE("a long context with a page out of range is an error and leaves other rows alone") {
    for (const std::string& name : narrow_plugins()) {
        CAPTURE(name);
        cpu_plugin_session session(name, 2);
        gqa_layer layer(2, 1, 16, 16);
        std::vector<float> good(layer.rows.size() * layer.out_width());
        REQUIRE(session.run(layer.desc, layer.args(session, 0, 4, good.data()), workspace_member) == MOIRA_OK);
        layer.cache.page_table[9'290 / 16] = -1; // the first row's alone
        std::vector<float> out(good.size(), 5.0f);
        REQUIRE(session.run(layer.desc, layer.args(session, 0, 4, out.data()), workspace_member) == MOIRA_OK);
        const moira_error_word word = session.error_word();
        CHECK(word.code == MOIRA_ERROR_PAGE_OUT_OF_RANGE);
        CHECK(word.row == 0);
        const uint64_t width = layer.out_width();
        CHECK(std::all_of(out.begin(), out.begin() + int64_t(width), [](float value) { return value == 0.0f; }));
        CHECK(std::memcmp(out.data() + width, good.data() + width, 3 * width * sizeof(float)) == 0);
    }
}

TEST_CASE("an infinite value in BF16 stays one and touches no other row") {
    for (const std::string& name : narrow_plugins()) {
        CAPTURE(name);
        cpu_plugin_session session(name, 1);
        gqa_layer layer(2, 1, 16, 16);
        layer.cache.slot(64)[16] = 0x7F80; // the first value of the last position of an odd context
        std::vector<float> out(layer.rows.size() * layer.out_width());
        REQUIRE(session.run(layer.desc, layer.args(session, 3, 3, out.data()), workspace_member) == MOIRA_OK);
        CHECK(std::isinf(out[5 * layer.out_width()])); // 65 positions
        CHECK(std::isfinite(out[5 * layer.out_width() + 1]));
        CHECK(std::isfinite(out[4 * layer.out_width()])); // 64 positions
    }
}
