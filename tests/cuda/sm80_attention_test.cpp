// Paged attention for sm_80, executed on the host: against the reference, under every schedule, row-exact.
#include "kernels/op_plan.hpp"
#include "kernels/packed_layout.hpp"
#include "tests/cuda/sm80_on_host.hpp"
#include "tests/cuda/stored_matrix.hpp"

#include <doctest/doctest.h>

#include <utility>

namespace moira {

namespace {

constexpr uint16_t bf16_nan = 0x7FC0;
constexpr double rounding_error_max = 0.015; // weights are rounded to BF16, by at most 2^-9 each

// Two sequences share the pool; two pages are of neither.
struct pool_shape {
    uint32_t page_tokens = 12; // no power of two, and pages do not end with tiles
    uint32_t context_max = 132;
    uint32_t first_page = 5; // 14: page 0 is of neither sequence

    uint32_t pages_of_sequence() const { return (context_max + page_tokens - 1) / page_tokens; }
    uint32_t pages() const { return 2 * pages_of_sequence() + 2; }
};

// Contexts that end within, at and behind tiles, pages and splits, of two sequences. Row 3 is a child in a candidate
// tree. The last one sees nothing.
std::vector<moira_attention_row> all_rows(const pool_shape& pool) {
    const auto second = int32_t(pool.pages_of_sequence());
    return {{0, 1, 0, -1},        {31, 32, 0, -1},   {32, 33, second, -1},   {33, 34, second, 2},
            {95, 96, 0, -1},      {50, 51, 0, -1},   {131, 132, second, -1}, {62, 63, 0, -1},
            {63, 64, second, -1}, {127, 128, 0, -1}, {70, 71, 0, -1},        {4, 0, 0, -1}};
}

template <class Desc>
struct attention_case {
    Desc desc{};
    std::vector<uint16_t> pool;
    std::vector<int32_t> page_table;
    std::vector<moira_attention_row> rows;
    std::vector<float> q;
    std::vector<float> sinks;
    std::vector<uint16_t> kv_b; // MLA
    uint64_t q_stride = 0;
    uint64_t slot_stride = 0;
    uint64_t value_offset = 0;
    uint64_t out_width = 0;

    // What no row may read is NaN: gaps between heads' keys and values and between slots, pages of nobody, and what
    // follows a row's queries. key_elements, q_elements: of a slot and of a row.
    void fill(const pool_shape& shape, uint64_t key_elements, uint64_t q_elements) {
        desc.page_tokens = shape.page_tokens;
        desc.pages = shape.pages();
        desc.context_max = shape.context_max;
        rows = all_rows(shape);
        std::vector<bool> used(shape.pages());
        for (uint32_t i = 0; i < 2 * shape.pages_of_sequence(); ++i) {
            page_table.push_back(int32_t((i * 7 + shape.first_page) % shape.pages()));
            used[size_t(page_table.back())] = true;
        }
        const std::vector<float> drawn = random_values(slot_stride * shape.pages() * shape.page_tokens, 3, 1.0f);
        for (uint64_t i = 0; i < drawn.size(); ++i) {
            const uint64_t at = i % slot_stride;
            const bool is_key = at < key_elements;
            const bool is_value = at >= value_offset && at < value_offset + key_elements;
            const bool read = used[i / slot_stride / shape.page_tokens] && (is_key || is_value);
            pool.push_back(read ? float_to_bf16(drawn[i]) : bf16_nan);
        }
        q = random_values(rows.size() * q_stride, 4, 2.0f);
        for (uint64_t i = 0; i < q.size(); ++i)
            q[i] = bf16_to_float(i % q_stride < q_elements ? float_to_bf16(q[i]) : bf16_nan);
    }
    moira_attention_args args(uint32_t count) const {
        moira_attention_args made{};
        made.rows = count;
        made.page_table_entries = uint32_t(page_table.size());
        made.q_stride = q_stride;
        made.kv = {nullptr, slot_stride, value_offset, nullptr};
        made.out_stride = out_width + 1;
        return made;
    }
};

using gqa_case = attention_case<moira_attention_gqa_desc>;
using mla_case = attention_case<moira_attention_mla_desc>;

gqa_case make_gqa(uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t window, bool sinks,
                  const pool_shape& pool = {}) {
    gqa_case made;
    made.desc.header = {sizeof made.desc, MOIRA_OP_ATTENTION_GQA, 8};
    made.desc.heads = heads;
    made.desc.kv_heads = kv_heads;
    made.desc.head_dim = head_dim;
    made.desc.kv_type = MOIRA_TYPE_BF16;
    made.desc.window = window;
    made.desc.sinks = sinks;
    made.desc.scale = 0.2f;
    made.q_stride = uint64_t{heads} * head_dim + 5;
    made.value_offset = uint64_t{kv_heads} * head_dim + 8;
    made.slot_stride = 2 * made.value_offset - 8; // the last slot's values end with the pool
    made.out_width = uint64_t{heads} * head_dim;
    if (sinks)
        made.sinks = random_values(heads, 9, 3.0f);
    made.fill(pool, uint64_t{kv_heads} * head_dim, made.out_width);
    // Scores of one head far above its neighbour's: each has its own maximum.
    for (uint64_t i = head_dim; heads > 1 && i < made.q.size();
         i = i % made.q_stride + 1 < 2 * head_dim ? i + 1 : i + 1 + made.q_stride - head_dim)
        made.q[i] *= 64.0f;
    return made;
}

mla_case make_mla(uint32_t heads, uint32_t kv_rank, uint32_t rope_dim) {
    mla_case made;
    made.desc.header = {sizeof made.desc, MOIRA_OP_ATTENTION_MLA, 8};
    made.desc.heads = heads;
    made.desc.key_dim = 24;
    made.desc.rope_dim = rope_dim;
    made.desc.value_dim = 20;
    made.desc.kv_rank = kv_rank;
    made.desc.kv_type = MOIRA_TYPE_BF16;
    made.desc.scale = 0.1f;
    made.desc.quantization = {MOIRA_TYPE_BF16, MOIRA_SCALE_NONE, 0, 0, 0, MOIRA_ACTIVATION_KEEP};
    made.q_stride = uint64_t{heads} * (24 + rope_dim) + 3;
    made.slot_stride = kv_rank + rope_dim + 8;
    made.out_width = uint64_t{heads} * 20;
    for (const float value : random_values(uint64_t{heads} * 44 * kv_rank, 6, 0.3f))
        made.kv_b.push_back(float_to_bf16(value));
    made.fill({}, kv_rank + rope_dim, made.q_stride - 3);
    return made;
}

// As plugins pack kv_b_proj: per head the key rows transposed, then the value rows.
std::vector<unsigned char> packed_weight(const gqa_case&, const packing_kernels&) {
    return {};
}
std::vector<unsigned char> packed_weight(const mla_case& test, const packing_kernels& packing) {
    const moira_attention_mla_desc& d = test.desc;
    const mla_layout layout = mla_layout_of(packing, d.quantization, d.kv_rank, d.key_dim, d.value_dim);
    std::vector<unsigned char> packed(d.heads * layout.head_bytes);
    for (uint32_t head = 0; head < d.heads; ++head) {
        const uint16_t* source = test.kv_b.data() + uint64_t{head} * (d.key_dim + d.value_dim) * d.kv_rank;
        unsigned char* target = packed.data() + head * layout.head_bytes;
        packing.pack_matrix(d.quantization, d.kv_rank, d.key_dim, source, 1, d.kv_rank, nullptr, target);
        packing.pack_matrix(d.quantization, d.value_dim, d.kv_rank, source + uint64_t{d.key_dim} * d.kv_rank, d.kv_rank,
                            1, nullptr, target + layout.value);
    }
    return packed;
}

struct attention_outcome {
    std::vector<float> out; // tight
    step_error_slot error;
};

template <class Case>
attention_outcome run_case(const Case& test, uint32_t first, uint32_t count, const simt_config& config,
                           attention_split_choice choice) {
    simt_memory memory;
    moira_attention_args args = test.args(count);
    const auto row = [&](const std::vector<float>& values, uint64_t stride) {
        return std::vector<float>(values.begin() + int64_t(first * stride),
                                  values.begin() + int64_t((first + count) * stride));
    };
    args.q = memory.copy_of("q", row(test.q, test.q_stride));
    args.row_table = memory.copy_of(
        "rows", std::vector<moira_attention_row>(test.rows.begin() + first, test.rows.begin() + first + count));
    args.kv.pool = memory.copy_of("pool", test.pool);
    args.kv.page_table = memory.copy_of("pages", test.page_table);
    if (!test.kv_b.empty())
        args.weight = memory.copy_of("weight", packed_weight(test, sm80_packing()));
    if (!test.sinks.empty())
        args.sinks = memory.copy_of("sinks", test.sinks);
    args.out = memory.allocate_array<float>("out", count * args.out_stride);
    args.workspace = memory.allocate("workspace", sm80_attention_bytes(test.desc, count, choice));
    cuda_launch launch{};
    launch.errors = memory.copy_of("error", std::vector<step_error_slot>{{~0ull, ~0ull}}, false);
    const simt_report report = run_sm80_attention(test.desc, args, launch, config, memory, choice);
    REQUIRE_MESSAGE(report.clean(), report.text());
    attention_outcome outcome;
    for (uint32_t index = 0; index < count; ++index)
        outcome.out.insert(outcome.out.end(), args.out + index * args.out_stride,
                           args.out + index * args.out_stride + test.out_width);
    outcome.error = *launch.errors;
    return outcome;
}

void run_reference(const moira_attention_gqa_desc& desc, const moira_attention_args& args, const work_share& share) {
    reference_attention_gqa(desc, args, share);
}
void run_reference(const moira_attention_mla_desc& desc, const moira_attention_args& args, const work_share& share) {
    reference_attention_mla(desc, args, share);
}

template <class Case>
std::vector<float> reference_case(const Case& test) {
    moira_attention_args args = test.args(uint32_t(test.rows.size()));
    const std::vector<unsigned char> weight = packed_weight(test, reference_packing());
    std::vector<float> out(test.rows.size() * test.out_width);
    args.q = test.q.data();
    args.row_table = test.rows.data();
    args.kv.pool = test.pool.data();
    args.kv.page_table = test.page_table.data();
    args.weight = weight.data();
    args.sinks = test.sinks.data();
    args.out = out.data();
    args.out_stride = test.out_width;
    std::vector<float> scratch(plan_workspace(test.desc.header).scratch_bytes / sizeof(float) + 16);
    run_reference(test.desc, args,
                  {attention_phase_finish, 0, uint64_t{test.desc.heads} * test.rows.size(), nullptr, scratch.data()});
    return out;
}

// Every schedule with one of the ways to split.
template <class Case>
void check_case(const Case& test, double error_max, uint32_t split_tokens = 64) {
    const std::vector<float> expected = reference_case(test);
    const auto rows = uint32_t(test.rows.size());
    std::vector<float> first;
    uint32_t turn = 0;
    for (const simt_config& config : simt_all_schedules(31)) {
        INFO("schedule ", int(config.schedule));
        const attention_outcome outcome = run_case(test, 0, rows, config, {split_tokens, turn++ % 2 == 1});
        CHECK(outcome.error.row_code == ~0ull);
        // The last row sees nothing.
        const std::vector<float> seen(outcome.out.begin(), outcome.out.end() - int64_t(test.out_width));
        const std::vector<float> seen_expected(expected.begin(), expected.end() - int64_t(test.out_width));
        CHECK(worst_relative_error(seen, seen_expected, uint32_t(test.out_width)) < error_max);
        CHECK(std::all_of(outcome.out.end() - int64_t(test.out_width), outcome.out.end(),
                          [](float value) { return value == 0.0f; }));
        if (first.empty())
            first = outcome.out;
        // One block after another or several at once, in any order: the same bits.
        CHECK(std::memcmp(first.data(), outcome.out.data(), first.size() * sizeof(float)) == 0);
    }
    for (uint32_t row = 0; row < rows; ++row) {
        const attention_outcome alone = run_case(test, row, 1, {}, {split_tokens, row % 2 == 0});
        CHECK(std::memcmp(alone.out.data(), first.data() + row * test.out_width, test.out_width * sizeof(float)) == 0);
    }
}

} // namespace

// Which rows report an error, alone; those that do get zeros.
std::vector<bool> rows_reported(const gqa_case& test) {
    std::vector<bool> reported;
    for (uint32_t row = 0; row < test.rows.size(); ++row) {
        const attention_outcome outcome = run_case(test, row, 1, {simt_schedule::reverse}, {32, row % 2 == 0});
        reported.push_back(outcome.error.row_code == MOIRA_ERROR_PAGE_OUT_OF_RANGE);
        if (reported.back())
            CHECK(outcome.error.row_detail == uint32_t(test.rows[row].context_length));
        else
            CHECK(outcome.error.row_code == ~0ull);
        const bool zero = std::all_of(outcome.out.begin(), outcome.out.end(), [](float x) { return x == 0.0f; });
        CHECK(zero == (reported.back() || test.rows[row].context_length == 0));
    }
    return reported;
}

TEST_CASE("a row of attention whose context or pages are out of range is reported and gets zeros") {
    gqa_case test = make_gqa(2, 1, 64, 0, false);
    const auto second = int32_t(pool_shape{}.pages_of_sequence());
    test.rows = {{0, 1, 0, -1},   {0, 133, 0, -1},         {0, -1, 0, -1},      {0, 5, -1, -1},      {0, 96, 15, -1},
                 {0, 84, 15, -1}, {0, 96, 3 * second, -1}, {0, 24, second, -1}, {0, 25, second, -1}, {0, 0, 0, -1}};
    test.page_table[size_t(second) + 2] = int32_t(test.desc.pages);
    CHECK(rows_reported(test) == std::vector<bool>{false, true, true, true, true, false, true, false, true, false});
    test.page_table[0] = -1;
    CHECK(rows_reported(test)[0]);
}

TEST_CASE("the first of several rows that are out of range is the one reported") {
    for (const bool shared_out : {false, true}) {
        gqa_case test = make_gqa(2, 1, 64, 0, false);
        test.rows[1].context_length = 133;
        test.rows[4].page_table_offset = 33;
        const attention_outcome outcome = run_case(test, 0, 7, {simt_schedule::reverse}, {32, shared_out});
        CHECK(outcome.error.row_code == (1ull << 32 | MOIRA_ERROR_PAGE_OUT_OF_RANGE));
        CHECK(outcome.error.row_detail == (1ull << 32 | 133));
        for (uint32_t row = 0; row < 7; ++row)
            CHECK((outcome.out[row * test.out_width + 7] == 0.0f) == (row == 1 || row == 4));
    }
}

TEST_CASE("every page that a row sees is checked, and none before its window") {
    gqa_case test = make_gqa(2, 1, 64, 50, false, {3, 132, 5}); // 44 pages: more than a warp has lanes
    test.rows = {{131, 132, 0, -1}};
    for (uint32_t page = 0; page < 44; ++page) {
        const int32_t before = std::exchange(test.page_table[page], 1 << 20);
        CHECK(rows_reported(test)[0] == (page >= 27)); // position 82 is the first one
        test.page_table[page] = before;
    }
    test.desc.window = 0;
    test.page_table[43] = -7;
    CHECK(rows_reported(test)[0]);
}

TEST_CASE("a window past the row's context sees nothing") {
    gqa_case test = make_gqa(2, 1, 64, 50, false);
    test.rows = {{50, 1, 0, -1}};
    const attention_outcome outcome = run_case(test, 0, 1, {}, {64, false});
    CHECK(outcome.error.row_code == ~0ull);
    CHECK(std::all_of(outcome.out.begin(), outcome.out.end(), [](float x) { return x == 0.0f; }));
}

TEST_CASE("a window that begins behind whole splits has the same bits shared out or not") {
    gqa_case test = make_gqa(1, 1, 64, 97, false, {12, 330, 5});
    test.rows = {{329, 330, 0, -1}, {97, 98, 0, -1}, {96, 97, 0, -1}, {255, 256, 0, -1}, {4, 0, 0, -1}};
    check_case(test, rounding_error_max);
    check_case(test, rounding_error_max, 96);
}

TEST_CASE("splits as the launch plans them stay within the workspace that it asks for") {
    gqa_case test = make_gqa(2, 1, 64, 600, true, {12, 1100, 5});
    test.rows = {{1099, 1100, 0, -1}, {40, 41, 0, -1}, {4, 0, 0, -1}};
    const std::vector<float> expected = reference_case(test);
    const attention_outcome outcome = run_case(test, 0, 3, {simt_schedule::random}, planned_split);
    const auto seen = int64_t(2 * test.out_width);
    CHECK(worst_relative_error({outcome.out.begin(), outcome.out.begin() + seen},
                               {expected.begin(), expected.begin() + seen}, 128) < rounding_error_max);
}

TEST_CASE("GQA for sm_80 takes heads of 256 dimensions, shared out or not") {
    gqa_case test = make_gqa(3, 1, 248, 0, false);
    test.rows = {test.rows[4], test.rows[6], test.rows[11]};
    check_case(test, rounding_error_max);
}

TEST_CASE("MLA for sm_80 agrees with the reference, and each row alone has the same bits") {
    // Queries in latent space and weighted latents are rounded, too.
    check_case(make_mla(3, 48, 16), 2 * rounding_error_max);
}

TEST_CASE("MLA for sm_80 takes latents as wide as DeepSeek-V3's") {
    const mla_case test = make_mla(17, 512, 64);
    const std::vector<float> expected = reference_case(test);
    const attention_outcome outcome = run_case(test, 5, 1, {simt_schedule::random}, {64, false});
    const auto begin = expected.begin() + int64_t(5 * test.out_width);
    CHECK(worst_relative_error(outcome.out, std::vector<float>(begin, begin + int64_t(test.out_width)),
                               uint32_t(test.out_width)) < 2 * rounding_error_max);
}

TEST_CASE("GQA for sm_80 agrees with the reference, and each row alone has the same bits") {
    check_case(make_gqa(6, 2, 64, 0, false), rounding_error_max);
    check_case(make_gqa(4, 4, 40, 50, true, {12, 132, 14}), rounding_error_max);
    check_case(make_gqa(20, 1, 128, 0, true), rounding_error_max);
}

} // namespace moira
