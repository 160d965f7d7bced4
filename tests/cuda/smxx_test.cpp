// The generic kernels on the host executor against the reference kernels: ragged shapes, every schedule.
#include "core/model/fp8_quantizer.hpp"
#include "kernels/cuda/host/executor.hpp"
#include "kernels/cuda/smxx/e4m3_blocks.hpp"
#include "kernels/cuda/smxx/permute.hpp"
#include "kernels/float_formats.hpp"
#include "kernels/reference/reference_kernels.hpp"
#include "tests/cuda/smxx_on_host.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>

namespace moira {

namespace {

std::vector<float> values(size_t count, uint32_t seed, float range = 1.0f) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-range, range);
    std::vector<float> all(count);
    std::generate(all.begin(), all.end(), [&] { return uniform(random); });
    return all;
}

work_share all_rows(uint32_t rows) {
    return {0, 0, rows, nullptr, nullptr};
}

template <class Number>
bool same_bits(const Number* a, const std::vector<Number>& b) {
    return std::memcmp(a, b.data(), b.size() * sizeof(Number)) == 0;
}

// Relative to the largest magnitude of the expected values: sums in another order.
bool close(const float* a, const std::vector<float>& b, float tolerance) {
    float largest = 0.0f;
    for (const float value : b)
        largest = std::max(largest, std::fabs(value));
    for (size_t i = 0; i < b.size(); ++i)
        if (!(std::fabs(a[i] - b[i]) <= tolerance * largest))
            return false;
    return true;
}

constexpr float sum_tolerance = 64 * 0x1p-24f; // sums of up to 1,031 terms in another order

// Runs once per schedule with fresh memory and an error slot.
void under_all_schedules(const std::function<void(const smxx_on_host&)>& check) {
    for (simt_config config : simt_all_schedules(11)) {
        config.shared_bytes_max = 48 * 1024; // more must be asked for, which the generic launches do not
        simt_memory memory;
        auto* errors = memory.allocate_array<step_error_slot>("errors", 1); // all ones: none
        INFO("schedule ", int(config.schedule));
        check({config, memory, errors});
    }
}

#define CHECK_CLEAN(...)                                                                                               \
    do {                                                                                                               \
        const simt_report clean_report = __VA_ARGS__;                                                                  \
        CHECK_MESSAGE(clean_report.clean(), clean_report.text());                                                      \
    } while (false)

moira_op_header header_of(uint32_t op, uint32_t rows) {
    return {0, op, rows};
}

void check_rmsnorm(uint32_t rows, uint32_t groups, uint32_t width) {
    const moira_rmsnorm_desc desc{header_of(MOIRA_OP_RMSNORM, rows), width, 1e-2f};
    const uint64_t group_stride = width + 3;
    const uint64_t stride = groups * group_stride + 5;
    const std::vector<float> in = values(rows * stride, width), weight = values(width, 2);
    std::vector<float> expected(rows * stride, 0.5f);
    reference_rmsnorm(desc, {rows, groups, in.data(), expected.data(), weight.data(), stride, stride, group_stride},
                      all_rows(rows));
    under_all_schedules([&](const smxx_on_host& host) {
        float* out = host.memory.copy_of("out", std::vector<float>(rows * stride, 0.5f), false);
        const float* device_in = host.memory.copy_of("in", in);
        const float* device_weight = host.memory.copy_of("weight", weight);
        CHECK_CLEAN(host.run(desc, {rows, groups, device_in, out, device_weight, stride, stride, group_stride}));
        CHECK(close(out, expected, sum_tolerance));
        // The last row alone, in place: the same bits.
        auto* alone =
            static_cast<float*>(host.memory.copy_bytes("alone", in.data() + (rows - 1) * stride, stride * 4, false));
        CHECK_CLEAN(host.run(desc, {1, groups, alone, alone, device_weight, stride, stride, group_stride}));
        for (uint32_t group = 0; group < groups; ++group)
            CHECK(std::memcmp(alone + group * group_stride, out + (rows - 1) * stride + group * group_stride,
                              width * 4) == 0);
    });
}

void check_rope(bool interleaved) {
    const uint32_t rows = 4, heads = 60, width = 10, positions = 7;
    const moira_rope_desc desc{header_of(MOIRA_OP_ROPE, rows), heads, width, interleaved, positions};
    const uint64_t head_stride = 13, row_stride = heads * head_stride + 2;
    const std::vector<float> x = values(rows * row_stride, 4), table = values(positions * width, 5);
    const std::vector<int32_t> at{6, -1, 0, 7};
    std::vector<float> expected = x;
    reference_rope(desc, {rows, 0, expected.data(), row_stride, head_stride, at.data(), table.data()}, all_rows(rows));
    under_all_schedules([&](const smxx_on_host& host) {
        float* out = host.memory.copy_of("x", x, false);
        CHECK_CLEAN(host.run(desc, {rows, 0, out, row_stride, head_stride, host.memory.copy_of("at", at),
                                    host.memory.copy_of("table", table)}));
        CHECK(same_bits(out, expected));
        CHECK(host.errors->row_code == (1ull << 32 | MOIRA_ERROR_TOKEN_OUT_OF_RANGE));
        CHECK(host.errors->row_detail == (1ull << 32 | 0xFFFFFFFFull)); // the first of two: row 1, position -1
    });
}

void check_kv_append(uint32_t kv_type) {
    const uint32_t rows = 4, width = 300, slots = 9;
    const moira_kv_append_desc desc{header_of(MOIRA_OP_KV_APPEND, rows), width, kv_type, slots, 0};
    const uint64_t in_stride = 301, slot_stride = 2 * width;
    std::vector<float> in = values(rows * in_stride, 6, 3.0f);
    in[7] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<int32_t> at{8, 0, 9, 3};
    std::vector<float> expected(slots * slot_stride, 0.25f);
    reference_kv_append(desc, {rows, 0, in.data(), in_stride, at.data(), expected.data(), slot_stride}, all_rows(rows));
    under_all_schedules([&](const smxx_on_host& host) {
        float* pool = host.memory.copy_of("pool", std::vector<float>(slots * slot_stride, 0.25f), false);
        CHECK_CLEAN(host.run(desc, {rows, 0, host.memory.copy_of("in", in), in_stride, host.memory.copy_of("at", at),
                                    pool, slot_stride}));
        CHECK(same_bits(pool, expected));
        CHECK(host.errors->row_code == (2ull << 32 | MOIRA_ERROR_PAGE_OUT_OF_RANGE));
    });
}

struct router_case {
    uint32_t rows, experts, top_k, scoring, groups, groups_kept, normalize;
    bool bias;
};

void check_router(const router_case& c) {
    const moira_router_topk_desc desc{header_of(MOIRA_OP_ROUTER_TOPK, c.rows),
                                      c.experts,
                                      c.top_k,
                                      c.scoring,
                                      c.bias,
                                      c.groups,
                                      c.groups_kept,
                                      c.normalize,
                                      2.5f};
    const uint64_t stride = c.experts + 1;
    std::vector<float> logits = values(c.rows * stride, c.experts, 6.0f);
    logits[1] = logits[0];      // equal ones: the lower id first
    logits[c.experts] = 300.0f; // behind the row
    const bool softmax = c.scoring == MOIRA_SCORE_SOFTMAX;
    const auto last_row = logits.begin() + (c.rows - 1) * stride;
    if (softmax)
        *last_row = 200.0f; // overflows where the maximum is not taken off
    else if (c.scoring == MOIRA_SCORE_SIGMOID)
        std::fill_n(last_row, c.experts, -200.0f); // all scores are 0
    if (c.experts > 4)
        logits[stride + 3] = std::numeric_limits<float>::infinity() * (softmax ? 0.0f : -1.0f);
    const std::vector<float> bias = values(c.experts, 8, 0.3f);
    const float* host_bias = c.bias ? bias.data() : nullptr;
    std::vector<int32_t> ids(c.rows * c.top_k);
    std::vector<float> weights(ids.size());
    reference_router_topk(desc, {c.rows, 0, logits.data(), stride, host_bias, ids.data(), weights.data()},
                          all_rows(c.rows));
    under_all_schedules([&](const smxx_on_host& host) {
        INFO("experts ", c.experts, " scoring ", c.scoring, " groups ", c.groups);
        int32_t* device_ids = host.memory.allocate_array<int32_t>("ids", ids.size());
        float* device_weights = host.memory.allocate_array<float>("weights", ids.size());
        const float* device_bias = c.bias ? host.memory.copy_of("bias", bias) : nullptr;
        CHECK_CLEAN(host.run(
            desc, {c.rows, 0, host.memory.copy_of("logits", logits), stride, device_bias, device_ids, device_weights}));
        CHECK(same_bits(device_ids, ids));
        for (size_t i = 0; i < ids.size(); ++i)
            CHECK((std::fabs(device_weights[i] - weights[i]) <= 1e-5f * std::fabs(weights[i]) ||
                   (std::isnan(weights[i]) && std::isnan(device_weights[i]))));
    });
}

void check_combine(uint32_t top_k, bool shared) {
    const uint32_t rows = 3, width = 300;
    const moira_combine_desc desc{header_of(MOIRA_OP_COMBINE, rows), width, top_k, shared, 0};
    std::vector<float> out = values(rows * top_k * width, 9), weights = values(rows * top_k, 10);
    if (top_k > 1) {
        weights[1] = 0.0f;
        std::fill_n(out.begin() + width, width, std::numeric_limits<float>::quiet_NaN());
    }
    const std::vector<float> shared_out = values(rows * width, 12), residual = values(rows * width, 13);
    std::vector<float> expected = residual;
    reference_combine(desc, {rows, 0, out.data(), weights.data(), shared_out.data(), expected.data()}, all_rows(rows));
    under_all_schedules([&](const smxx_on_host& host) {
        float* device = host.memory.copy_of("residual", residual, false);
        CHECK_CLEAN(host.run(desc, {rows, 0, top_k ? host.memory.copy_of("out", out) : nullptr,
                                    top_k ? host.memory.copy_of("weights", weights) : nullptr,
                                    shared ? host.memory.copy_of("shared", shared_out) : nullptr, device}));
        CHECK(same_bits(device, expected));
    });
}

// Against the reference, with a stride between generations, ids that are left out (-1) and one that names no expert.
void check_groups(uint32_t rows, uint32_t top_k, uint32_t experts, bool unknown) {
    constexpr uint32_t stride = 4;
    const moira_expert_groups_desc desc{header_of(MOIRA_OP_EXPERT_GROUPS, rows), experts, top_k};
    std::vector<int32_t> ids(rows * top_k);
    std::mt19937 random(rows);
    for (int32_t& id : ids)
        id = int32_t(random() % (experts + 1) / 2 * 2) - (random() % 8 == 0 ? 2 * int32_t(experts) : 0);
    std::replace_if(
        ids.begin(), ids.end(), [&](int32_t id) { return id >= int32_t(experts); }, 0);
    if (unknown)
        ids[ids.size() / 2] = int32_t(experts);
    std::vector<uint32_t> generations(experts * stride), counts(experts);
    for (uint32_t i = 0; i < experts; ++i)
        generations[i * stride] = 100 + i;
    std::vector<moira_expert_group> groups(experts);
    std::vector<moira_expert_pair> pairs(ids.size());
    uint32_t count = 0;
    reference_expert_groups(
        desc, {rows, stride, ids.data(), generations.data(), groups.data(), pairs.data(), &count, nullptr},
        {0, 0, 1, reinterpret_cast<float*>(counts.data()), nullptr});
    under_all_schedules([&](const smxx_on_host& host) {
        auto* got_groups = host.memory.allocate_array<moira_expert_group>("groups", experts);
        auto* got_pairs = host.memory.allocate_array<moira_expert_pair>("pairs", ids.size());
        auto* got_count = host.memory.allocate_array<uint32_t>("count", 1);
        CHECK_CLEAN(host.run(desc, {rows, stride, host.memory.copy_of("ids", ids),
                                    host.memory.copy_of("generations", generations), got_groups, got_pairs, got_count,
                                    host.memory.allocate_array<uint32_t>("counts", experts)}));
        REQUIRE(*got_count == count);
        CHECK(std::memcmp(got_groups, groups.data(), count * sizeof groups[0]) == 0);
        CHECK((pairs.empty() || std::memcmp(got_pairs, pairs.data(), pairs.size() * sizeof pairs[0]) == 0));
        CHECK((uint32_t(host.errors->row_code) == MOIRA_ERROR_EXPERT_EMPTY) == unknown);
        if (unknown)
            CHECK((host.errors->row_code >> 32) == ids.size() / 2 / top_k);
    });
}

void check_e4m3(uint32_t n, uint32_t k) {
    std::vector<float> matrix = values(n * k, k, 50.0f);
    std::fill_n(matrix.begin(), std::min<size_t>(k, 128), 0.0f);
    if (n > 128)
        matrix[size_t{128} * k] = -400.0f; // the largest of its block comes first, and just behind the block above
    std::vector<std::byte> stored(fp8_weight_bytes(n, k)), scales(fp8_scale_bytes(n, k));
    const auto bytes = std::as_bytes(std::span(matrix));
    REQUIRE(quantize_to_fp8(MOIRA_TYPE_F32, bytes, n, k, stored, scales));
    under_all_schedules([&](const smxx_on_host& host) {
        auto* device_stored = host.memory.allocate_array<uint8_t>("stored", stored.size());
        auto* device_scales = host.memory.allocate_array<float>("scales", scales.size() / 4);
        CHECK_CLEAN(
            host.quantize({n, k, 128, 128, host.memory.copy_of("values", matrix), device_stored, device_scales}));
        CHECK(std::memcmp(device_stored, stored.data(), stored.size()) == 0);
        CHECK(std::memcmp(device_scales, scales.data(), scales.size()) == 0);
        float* back = host.memory.allocate_array<float>("back", matrix.size());
        CHECK_CLEAN(host.dequantize({n, k, 128, 128, back, device_stored, device_scales}));
        const uint32_t columns = (k + 127) / 128;
        for (uint32_t i = 0; i < matrix.size(); ++i) {
            const float scale = device_scales[i / k / 128 * columns + i % k / 128];
            REQUIRE(back[i] == f8_e4m3_to_float(uint8_t(stored[i])) * scale);
        }
    });
}

} // namespace

TEST_CASE("embedding widens every stored type and reports the first unknown token") {
    for (const uint32_t type : {MOIRA_TYPE_F32, MOIRA_TYPE_BF16, MOIRA_TYPE_F16, MOIRA_TYPE_F8_E4M3}) {
        const uint32_t rows = 5, vocabulary = 6, width = 301;
        const moira_embedding_desc desc{header_of(MOIRA_OP_EMBEDDING, rows), vocabulary, width, type, 0};
        std::vector<uint32_t> table(vocabulary * width);
        std::mt19937 random(type + 1);
        for (uint32_t& word : table)
            word = random() & 0x3F7F3F7Fu; // finite in every type
        const std::vector<int32_t> ids{5, 0, 6, 2, -3};
        std::vector<float> expected(rows * width);
        reference_embedding(desc, {rows, 0, ids.data(), table.data(), expected.data()}, all_rows(rows));
        under_all_schedules([&](const smxx_on_host& host) {
            float* out = host.memory.allocate_array<float>("out", rows * width);
            CHECK_CLEAN(
                host.run(desc, {rows, 0, host.memory.copy_of("ids", ids), host.memory.copy_of("table", table), out}));
            CHECK(same_bits(out, expected));
            CHECK(host.errors->row_code == (2ull << 32 | MOIRA_ERROR_TOKEN_OUT_OF_RANGE));
            CHECK(host.errors->row_detail == (2ull << 32 | 6));
        });
    }
}

TEST_CASE("rmsnorm agrees with the reference, and a row's bits do not depend on other rows") {
    check_rmsnorm(3, 3, 40); // one warp per vector, a warp without work in the last block
    check_rmsnorm(2, 1, 512);
    check_rmsnorm(2, 2, 1031); // one block per vector
}

TEST_CASE("rope gives the reference's bits in both layouts and skips positions past the table") {
    check_rope(false);
    check_rope(true);
}

TEST_CASE("kv_append gives the reference's bits and skips slots outside of the pool") {
    check_kv_append(MOIRA_TYPE_F32);
    check_kv_append(MOIRA_TYPE_BF16);
}

TEST_CASE("the router chooses as the reference does with every scoring, bias, groups and ties") {
    check_router({6, 128, 8, MOIRA_SCORE_SOFTMAX, 1, 1, 1, false});
    check_router({5, 40, 6, MOIRA_SCORE_SOFTMAX, 1, 1, 0, true});
    check_router({3, 256, 8, MOIRA_SCORE_SIGMOID, 8, 4, 1, true});
    check_router({40, 24, 3, MOIRA_SCORE_SIGMOID, 8, 2, 1, true});  // many rows: each neighbour of a group matters once
    check_router({2, 48, 12, MOIRA_SCORE_SIGMOID, 4, 1, 0, false}); // exactly one group's members
    check_router({2, 48, 14, MOIRA_SCORE_SIGMOID, 4, 1, 1, true});  // more than the kept group holds
    check_router({3, 33, 4, MOIRA_SCORE_SQRT_SOFTPLUS, 1, 1, 1, true});
    check_router({2, 1024, 8, MOIRA_SCORE_SQRT_SOFTPLUS, 1024, 16, 1, false}); // groups of one, two warps' worth
    check_router({2, 3, 3, MOIRA_SCORE_SOFTMAX, 1, 1, 1, false});
}

TEST_CASE("combine gives the reference's bits and never reads a rank of weight 0") {
    check_combine(4, true);
    check_combine(2, false);
    check_combine(0, true);
}

TEST_CASE("pairs are grouped by expert in rising order, whatever order the blocks run in") {
    check_groups(37, 3, 10, false);
    check_groups(40, 4, 11, true);
    check_groups(1, 2, 40, false);
    check_groups(1, 2, 1, true);
    check_groups(3, 3, 70, false);
}

TEST_CASE("E4M3 blocks have the bytes of the CPU's quantiser and come back") {
    check_e4m3(130, 200);
    check_e4m3(3, 128);
    check_e4m3(256, 130);
}

} // namespace moira
