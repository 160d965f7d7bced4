// Attention of the CPU plugins over paged keys and values, against double.
#include "tests/plugins/cpu_plugin_session.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

using namespace moira_test;

namespace {

constexpr uint32_t page_tokens = 16;
constexpr uint32_t pages = 24;
constexpr uint32_t context_max = 160;

// A pool of token slots, and two sequences whose pages are scattered over it.
struct paged_cache {
    uint64_t slot_stride;
    std::vector<float> pool;
    std::vector<int32_t> page_table;

    explicit paged_cache(uint64_t stride) : slot_stride(stride), pool(random_floats(stride * pages * page_tokens, 3)) {
        for (uint32_t i = 0; i < 2 * context_max / page_tokens; ++i)
            page_table.push_back(int32_t((i * 7 + 5) % pages));
    }
    const float* slot(const moira_attention_row& row, uint32_t position) const {
        const int32_t page = page_table[uint64_t(row.page_table_offset) + position / page_tokens];
        return pool.data() + (uint64_t(page) * page_tokens + position % page_tokens) * slot_stride;
    }
    moira_kv_view view(uint64_t value_offset) const {
        return {pool.data(), slot_stride, value_offset, page_table.data()};
    }
};

std::vector<moira_attention_row> make_rows() {
    const auto second = int32_t(context_max / page_tokens);
    return {{0, 1, 0, -1},     {63, 64, 0, -1},        {64, 65, second, -1}, {99, 100, 0, -1},
            {100, 101, 0, -1}, {159, 160, second, -1}, {5, 6, second, -1}};
}

struct gqa_layer {
    moira_attention_gqa_desc desc = make_desc<moira_attention_gqa_desc>(MOIRA_OP_ATTENTION_GQA, 16);
    std::vector<float> sinks;
    paged_cache cache;
    std::vector<moira_attention_row> rows = make_rows();
    std::vector<float> q;

    gqa_layer(uint32_t heads, uint32_t kv_heads, uint32_t head_dim)
        : sinks(random_floats(heads, 8)), cache(uint64_t{kv_heads} * head_dim * 2 + 3),
          q(random_floats(uint64_t{heads} * head_dim * rows.size(), 4)) {
        desc.heads = heads;
        desc.kv_heads = kv_heads;
        desc.head_dim = head_dim;
        desc.kv_type = MOIRA_TYPE_F32;
        desc.page_tokens = page_tokens;
        desc.pages = pages;
        desc.context_max = context_max;
        desc.scale = 1.0f / std::sqrt(float(head_dim));
    }
    uint64_t width() const { return uint64_t{desc.heads} * desc.head_dim; }
    moira_attention_args args(uint32_t first, uint32_t count, float* out) const {
        moira_attention_args made{};
        made.rows = count;
        made.page_table_entries = uint32_t(cache.page_table.size());
        made.q = q.data() + first * width();
        made.q_stride = width();
        made.row_table = rows.data() + first;
        made.kv = cache.view(uint64_t{desc.kv_heads} * desc.head_dim);
        made.sinks = desc.sinks ? sinks.data() : nullptr;
        made.out = out + first * width();
        made.out_stride = width();
        return made;
    }
};

// softmax(scale * q k) v in double over the visible positions.
std::vector<double> exact_attention(const paged_cache& cache, const moira_attention_row& row,
                                    const std::vector<double>& query, uint64_t key_offset, uint64_t value_offset,
                                    uint32_t value_width, double scale, uint32_t window, const float* sink) {
    std::vector<double> weights;
    const int64_t first = window == 0 ? 0 : std::max<int64_t>(0, int64_t{row.position} - window + 1);
    std::vector<double> out(value_width, 0.0);
    double sum = sink ? std::exp(double(*sink)) : 0.0;
    for (auto position = uint32_t(first); position < uint32_t(row.context_length); ++position) {
        const float* slot = cache.slot(row, position);
        double score = 0.0;
        for (size_t d = 0; d < query.size(); ++d)
            score += query[d] * double(slot[key_offset + d]);
        const double weight = std::exp(score * scale);
        sum += weight;
        for (uint32_t d = 0; d < value_width; ++d)
            out[d] += weight * double(slot[value_offset + d]);
    }
    for (double& value : out)
        value /= sum;
    return out;
}

struct mla_layer {
    moira_attention_mla_desc desc = make_desc<moira_attention_mla_desc>(MOIRA_OP_ATTENTION_MLA, 16);
    stored_weight kv_b;
    paged_cache cache;
    std::vector<moira_attention_row> rows = make_rows();
    std::vector<float> q;
    const void* packed = nullptr;

    mla_layer(uint32_t heads, uint32_t key_dim, uint32_t rope_dim, uint32_t value_dim, uint32_t kv_rank)
        : kv_b(random_weight(MOIRA_TYPE_BF16, heads * (key_dim + value_dim), kv_rank, 6)),
          cache(uint64_t{kv_rank} + rope_dim),
          q(random_floats(uint64_t{heads} * (key_dim + rope_dim) * rows.size(), 4)) {
        desc.heads = heads;
        desc.key_dim = key_dim;
        desc.rope_dim = rope_dim;
        desc.value_dim = value_dim;
        desc.kv_rank = kv_rank;
        desc.kv_type = MOIRA_TYPE_F32;
        desc.page_tokens = page_tokens;
        desc.pages = pages;
        desc.context_max = context_max;
        desc.scale = 0.1f;
        desc.quantization = kv_b.quantization;
    }
    uint64_t q_width() const { return uint64_t{desc.heads} * (desc.key_dim + desc.rope_dim); }
    uint64_t out_width() const { return uint64_t{desc.heads} * desc.value_dim; }
    void pack(cpu_plugin_session& session) {
        moira_pack_desc pack{};
        pack.struct_size = sizeof pack;
        pack.kind = MOIRA_PACK_MLA_KV;
        pack.n = desc.heads * (desc.key_dim + desc.value_dim);
        pack.k = desc.kv_rank;
        pack.heads = desc.heads;
        pack.key_dim = desc.key_dim;
        pack.value_dim = desc.value_dim;
        pack.quantization = kv_b.quantization;
        packed = session.pack(pack, {{kv_b.bytes.data(), nullptr, nullptr}});
    }
    moira_attention_args args(uint32_t first, uint32_t count, float* out) const {
        moira_attention_args made{};
        made.rows = count;
        made.page_table_entries = uint32_t(cache.page_table.size());
        made.q = q.data() + first * q_width();
        made.q_stride = q_width();
        made.row_table = rows.data() + first;
        made.kv = cache.view(0);
        made.weight = packed;
        made.out = out + first * out_width();
        made.out_stride = out_width();
        return made;
    }
    // Unabsorbed: keys and values are expanded from the latent per head, as the paper writes it.
    std::vector<double> exact(uint32_t row, uint32_t head) const {
        const float* query = &q[row * q_width() + uint64_t{head} * (desc.key_dim + desc.rope_dim)];
        const uint64_t head_row = uint64_t{head} * (desc.key_dim + desc.value_dim);
        std::vector<double> out(desc.value_dim, 0.0);
        double sum = 0.0;
        for (uint32_t position = 0; position < uint32_t(rows[row].context_length); ++position) {
            const float* slot = cache.slot(rows[row], position);
            std::vector<double> expanded(desc.key_dim + desc.value_dim, 0.0);
            for (size_t d = 0; d < expanded.size(); ++d)
                for (uint32_t r = 0; r < desc.kv_rank; ++r)
                    expanded[d] += double(kv_b.values[(head_row + d) * desc.kv_rank + r]) * double(slot[r]);
            double score = 0.0;
            for (uint32_t d = 0; d < desc.key_dim; ++d)
                score += double(query[d]) * expanded[d];
            for (uint32_t d = 0; d < desc.rope_dim; ++d)
                score += double(query[desc.key_dim + d]) * double(slot[desc.kv_rank + d]);
            const double weight = std::exp(score * double(desc.scale));
            sum += weight;
            for (uint32_t d = 0; d < desc.value_dim; ++d)
                out[d] += weight * expanded[desc.key_dim + d];
        }
        for (double& value : out)
            value /= sum;
        return out;
    }
};

constexpr auto workspace_member = &moira_attention_args::workspace;

double worst_difference(const std::vector<double>& expected, const float* got) {
    double worst = 0.0;
    for (size_t i = 0; i < expected.size(); ++i)
        worst = std::max(worst, std::fabs(expected[i] - double(got[i])));
    return worst;
}

// Runs all rows at once on teams of 1, 2 and 3, then each row alone: equal bits.
template <class Layer>
void check_row_exact(const std::string& name, Layer& layer, uint64_t out_width, bool packs) {
    std::vector<float> first;
    for (const uint32_t team : {1u, 2u, 3u}) {
        cpu_plugin_session session(name, team);
        if constexpr (requires { layer.pack(session); })
            if (packs)
                layer.pack(session);
        const auto rows = uint32_t(layer.rows.size());
        std::vector<float> together(rows * out_width);
        std::vector<float> alone(rows * out_width);
        REQUIRE(session.run(layer.desc, layer.args(0, rows, together.data()), workspace_member) == MOIRA_OK);
        CHECK((team == 1) == (session.team_runs() == 0));
        for (uint32_t row = 0; row < rows; ++row)
            REQUIRE(session.run(layer.desc, layer.args(row, 1, alone.data()), workspace_member) == MOIRA_OK);
        if (first.empty())
            first = together;
        CHECK(std::memcmp(first.data(), together.data(), first.size() * sizeof(float)) == 0);
        CHECK(std::memcmp(first.data(), alone.data(), first.size() * sizeof(float)) == 0);
        CHECK(session.error_word().code == MOIRA_ERROR_NONE);
    }
}

} // namespace

TEST_CASE("grouped-query attention agrees with double, with window and sinks") {
    for (const std::string& name : usable_plugins()) {
        for (const uint32_t window : {0u, 1u, 70u}) {
            for (const uint32_t sinks : {0u, 1u}) {
                CAPTURE(name);
                CAPTURE(window);
                CAPTURE(sinks);
                cpu_plugin_session session(name, 2);
                gqa_layer layer(6, 2, 37);
                layer.desc.window = window;
                layer.desc.sinks = sinks;
                std::vector<float> out(layer.rows.size() * layer.width());
                REQUIRE(session.run(layer.desc, layer.args(0, uint32_t(layer.rows.size()), out.data()),
                                    workspace_member) == MOIRA_OK);
                for (uint32_t row = 0; row < layer.rows.size(); ++row) {
                    for (uint32_t head = 0; head < 6; ++head) {
                        const float* q = &layer.q[row * layer.width() + head * 37];
                        const uint64_t key_offset = head / 3 * 37;
                        const auto expected =
                            exact_attention(layer.cache, layer.rows[row], {q, q + 37}, key_offset, key_offset + 2 * 37,
                                            37, double(layer.desc.scale), window, sinks ? &layer.sinks[head] : nullptr);
                        CHECK(worst_difference(expected, &out[row * layer.width() + head * 37]) < 2e-6);
                    }
                }
            }
        }
    }
}

TEST_CASE("absorbed MLA agrees with the expanded form in double") {
    for (const std::string& name : usable_plugins()) {
        CAPTURE(name);
        cpu_plugin_session session(name, 2);
        mla_layer layer(3, 20, 10, 17, 70);
        layer.pack(session);
        std::vector<float> out(layer.rows.size() * layer.out_width());
        REQUIRE(session.run(layer.desc, layer.args(0, uint32_t(layer.rows.size()), out.data()), workspace_member) ==
                MOIRA_OK);
        for (uint32_t row = 0; row < layer.rows.size(); ++row)
            for (uint32_t head = 0; head < 3; ++head)
                CHECK(worst_difference(layer.exact(row, head), &out[row * layer.out_width() + head * 17]) < 2e-5);
    }
}

TEST_CASE("an attention row has the same bits alone, among others and on any team") {
    for (const std::string& name : usable_plugins()) {
        CAPTURE(name);
        gqa_layer gqa(8, 4, 48);
        gqa.desc.window = 90;
        check_row_exact(name, gqa, gqa.width(), false);
        mla_layer mla(4, 32, 16, 32, 96);
        check_row_exact(name, mla, mla.out_width(), true);
    }
}

TEST_CASE("pages out of range set the error word and are never read") {
    for (const std::string& name : usable_plugins()) {
        CAPTURE(name);
        cpu_plugin_session session(name, 1);
        gqa_layer layer(2, 1, 16);
        std::vector<float> out(layer.rows.size() * layer.width(), 5.0f);
        const auto run = [&] {
            const auto args = layer.args(0, uint32_t(layer.rows.size()), out.data());
            REQUIRE(session.run(layer.desc, args, workspace_member) == MOIRA_OK);
            return session.error_word();
        };
        layer.cache.page_table[4] = int32_t(pages); // position 64 to 79 of the first sequence: rows 3 and 4
        const moira_error_word word = run();
        CHECK(word.code == MOIRA_ERROR_PAGE_OUT_OF_RANGE);
        CHECK(word.op == MOIRA_OP_ATTENTION_GQA);
        CHECK(word.row == 3);
        CHECK(out[3 * layer.width()] == 0.0f);
        CHECK(out[1 * layer.width()] != 0.0f);
        layer.cache.page_table[4] = -1;
        CHECK(run().code == MOIRA_ERROR_PAGE_OUT_OF_RANGE);
        layer.cache.page_table[4] = 0;
        CHECK(run().code == MOIRA_ERROR_NONE);
        layer.rows[0].context_length = context_max + 1;
        CHECK(run().code == MOIRA_ERROR_PAGE_OUT_OF_RANGE);
        layer.rows[0].context_length = 1;
        layer.rows[0].page_table_offset = int32_t(layer.cache.page_table.size());
        CHECK(run().code == MOIRA_ERROR_PAGE_OUT_OF_RANGE);
    }
}

TEST_CASE("pages before the window may be gone") {
    for (const std::string& name : usable_plugins()) {
        CAPTURE(name);
        cpu_plugin_session session(name, 1);
        gqa_layer layer(2, 1, 16);
        layer.desc.window = 20;
        layer.cache.page_table[0] = -1;
        std::vector<float> out(layer.rows.size() * layer.width());
        REQUIRE(session.run(layer.desc, layer.args(3, 2, out.data()), workspace_member) == MOIRA_OK);
        CHECK(session.error_word().code == MOIRA_ERROR_NONE);
    }
}

TEST_CASE("a row of a candidate tree is refused") {
    cpu_plugin_session session("cpu_reference", 1);
    gqa_layer layer(2, 1, 16);
    layer.rows[1].parent = 0;
    std::vector<float> out(layer.rows.size() * layer.width());
    CHECK(session.run(layer.desc, layer.args(0, 2, out.data()), workspace_member) == MOIRA_UNSUPPORTED);
}
