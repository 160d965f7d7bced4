// The grouped expert FFN for sm_80, executed on the host: against the reference, under every schedule, row-exact.
#include "kernels/cuda/sm80/weight_plan.hpp"
#include "kernels/op_plan.hpp"
#include "tests/cuda/sm80_on_host.hpp"
#include "tests/cuda/stored_matrix.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace moira {

namespace {

constexpr uint32_t layer_experts = 4;
constexpr uint32_t x_rows = 6;
// The inner activations are rounded to BF16, by at most 2^-9 each; a few large ones among 72 dominate a sum. One weight
// read in another's place shows as 10 % or more.
constexpr double rounding_error_max = 0.02;

// Both widths end within a tile of columns, within a stage of K, and are odd.
struct layer_widths {
    uint32_t hidden = 143;
    uint32_t inner = 79;
};

struct expert_layer {
    moira_expert_ffn_desc desc{};
    uint32_t layer_hidden;
    uint32_t layer_inner;
    uint32_t x_stride;                   // NaN between rows
    std::vector<stored_matrix> matrices; // gate, up, down per expert
    std::vector<std::vector<float>> biases;
    std::vector<float> x;

    expert_layer(uint32_t weight_type, uint32_t activation, const layer_widths& widths = {})
        : layer_hidden(widths.hidden), layer_inner(widths.inner), x_stride(widths.hidden + 2) {
        desc.header = {sizeof desc, MOIRA_OP_EXPERT_FFN, 64};
        desc.hidden = layer_hidden;
        desc.inner = layer_inner;
        desc.experts = layer_experts;
        desc.activation = activation;
        desc.alpha = 1.702f;
        desc.limit = 2.0f;
        for (uint32_t part = 0; part < 3 * layer_experts; ++part) {
            const bool is_down = part % 3 == 2;
            matrices.emplace_back(weight_type, is_down ? layer_hidden : layer_inner,
                                  is_down ? layer_inner : layer_hidden, 10 + part);
            biases.push_back(random_values(is_down ? layer_hidden : layer_inner, 40 + part, 0.5f));
        }
        desc.quantization = matrices[0].quantization;
        x = random_values(x_rows * x_stride, 5, 1.0f);
        for (uint32_t i = 0; i < x.size(); ++i) // what remains is the rounding of the inner activations
            x[i] = i % x_stride < layer_hidden ? bf16_to_float(float_to_bf16(x[i])) : NAN;
    }

    // One slab, packed with `packing`; `wide`: weights as float32.
    std::vector<unsigned char> slab(const packing_kernels& packing, uint32_t expert, bool wide) const {
        const moira_quantization& stored = wide ? plain_f32 : desc.quantization;
        const expert_layout layout = expert_layout_of(packing, stored, layer_hidden, layer_inner);
        std::vector<unsigned char> bytes(layout.bytes, 0xFF); // NaN in gaps
        const uint64_t offsets[] = {layout.gate, layout.up, layout.down};
        const uint64_t bias_offsets[] = {layout.gate_bias, layout.up_bias, layout.down_bias};
        for (uint32_t part = 0; part < 3; ++part) {
            const stored_matrix& matrix = matrices[expert * 3 + part];
            const std::vector<float>& bias = biases[expert * 3 + part];
            packing.pack_matrix(stored, matrix.n, matrix.k,
                                wide ? (const void*)matrix.values.data() : matrix.bytes.data(), matrix.k, 1,
                                matrix.scales.data(), bytes.data() + offsets[part]);
            std::memcpy(bytes.data() + bias_offsets[part], bias.data(), bias.size() * sizeof(float));
        }
        return bytes;
    }
};

// Groups of a launch; pairs are spread over rows of x, and written in another order.
struct expert_work {
    std::vector<moira_expert_group> groups;
    std::vector<moira_expert_pair> pairs;

    void add(uint32_t expert, uint32_t count, uint32_t generation = 7) {
        groups.push_back({expert, generation, uint32_t(pairs.size()), count});
        for (uint32_t i = 0; i < count; ++i)
            pairs.push_back({int32_t((expert + i * 5) % x_rows), 0});
    }
    void number_outputs() {
        for (uint32_t i = 0; i < pairs.size(); ++i)
            pairs[i].out_row = int32_t(pairs.size() - 1 - i);
    }
};

struct expert_outcome {
    simt_report report;
    std::vector<float> out;
    step_error_slot error;
};

expert_outcome run_layer(const expert_layer& layer, const expert_work& work, const simt_config& config,
                         uint32_t tile_rows, std::vector<moira_expert_entry> table = {},
                         const uint32_t* counted = nullptr) {
    simt_memory memory;
    const uint32_t layout_id = packed_layout_id(layout_base_mma_tiles, MOIRA_PACK_EXPERT, layer.desc.quantization);
    table.resize(layer_experts, {1, 7, layout_id});
    for (uint32_t expert = 0; expert < layer_experts; ++expert)
        if (table[expert].address == 1)
            table[expert].address =
                reinterpret_cast<uint64_t>(memory.copy_of("slab", layer.slab(sm80_packing(), expert, false)));
    const uint32_t layer_hidden = layer.layer_hidden;
    const auto groups = uint32_t(work.groups.size());
    const auto pairs = uint32_t(work.pairs.size());
    moira_expert_ffn_args args{};
    args.groups = groups;
    args.pairs = pairs;
    args.x = memory.copy_of("x", layer.x);
    args.x_stride = layer.x_stride;
    args.table = memory.copy_of("entries", table);
    args.group_table = memory.copy_of("groups", work.groups);
    args.pair_table = memory.copy_of("pairs", work.pairs);
    if (counted)
        args.group_count = memory.copy_of("group count", std::vector<uint32_t>{*counted});
    args.out_stride = layer_hidden + 3;
    args.out = memory.allocate_array<float>("out", pairs * args.out_stride);
    args.workspace = memory.allocate("workspace", sm80_expert_ffn_bytes(layer.desc, groups, pairs, tile_rows));
    cuda_launch launch{};
    launch.errors = memory.copy_of("error", std::vector<step_error_slot>{{~0ull, ~0ull}}, false);
    launch.expert_layout_id = layout_id;
    expert_outcome outcome;
    outcome.report = run_sm80_expert_ffn(layer.desc, args, launch, config, memory, tile_rows);
    for (uint32_t pair = 0; pair < pairs; ++pair)
        outcome.out.insert(outcome.out.end(), args.out + pair * args.out_stride,
                           args.out + pair * args.out_stride + layer_hidden);
    for (uint32_t pair = 0; pair < pairs; ++pair) // nothing is written between rows
        CHECK(std::isnan(args.out[pair * args.out_stride + layer_hidden]));
    outcome.error = *launch.errors;
    return outcome;
}

std::vector<float> reference_layer(const expert_layer& layer, const expert_work& work) {
    const uint32_t layer_hidden = layer.layer_hidden;
    moira_expert_ffn_desc desc = layer.desc;
    desc.quantization = plain_f32;
    std::vector<std::vector<unsigned char>> slabs;
    std::vector<moira_expert_entry> table;
    for (uint32_t expert = 0; expert < layer_experts; ++expert) {
        slabs.push_back(layer.slab(reference_packing(), expert, true));
        table.push_back({reinterpret_cast<uint64_t>(slabs.back().data()), 7, 0});
    }
    std::vector<float> out(work.pairs.size() * layer_hidden);
    moira_expert_ffn_args args{};
    args.groups = uint32_t(work.groups.size());
    args.pairs = uint32_t(work.pairs.size());
    args.x = layer.x.data();
    args.x_stride = layer.x_stride;
    args.out_stride = layer_hidden;
    args.table = table.data();
    args.group_table = work.groups.data();
    args.pair_table = work.pairs.data();
    args.out = out.data();
    std::vector<float> shared(plan_workspace(desc.header).shared_bytes / sizeof(float));
    for (uint32_t phase = 0; phase < 2; ++phase)
        reference_expert_ffn(desc, args,
                             {phase, 0, plan_phase(desc.header, &args, phase).units, shared.data(), nullptr});
    return out;
}

expert_work ragged_work() {
    expert_work work;
    work.add(2, 1);
    work.add(0, 0);
    work.add(3, 15);
    work.add(1, 13);
    work.add(0, 7);
    work.add(2, 8);
    work.number_outputs();
    return work;
}

const uint32_t weight_types[] = {MOIRA_TYPE_BF16, MOIRA_TYPE_F8_E4M3, MOIRA_TYPE_F4_E2M1};

} // namespace

TEST_CASE("groups whose pairs are not all of the launch's are cut to those that are") {
    const expert_layer layer(MOIRA_TYPE_BF16, MOIRA_FFN_SILU_GATED, {72, 40});
    expert_work work;
    work.add(0, 5);
    work.add(1, 12);
    work.number_outputs();
    const std::vector<float> expected = reference_layer(layer, work);
    work.groups[1].pair_count = 0xFFFFFFFFu;
    work.groups.push_back({2, 7, 17, 1});          // begins at the end
    work.groups.push_back({2, 7, 0xFFFFFFF0u, 8}); // and far behind
    const expert_outcome outcome = run_layer(layer, work, {simt_schedule::random}, 8);
    REQUIRE_MESSAGE(outcome.report.clean(), outcome.report.text());
    CHECK(outcome.error.row_code == ~0ull);
    CHECK(worst_relative_error(outcome.out, expected, layer.layer_hidden) < rounding_error_max);

    // More tiles than there is room for, with the rows of x right behind them: what comes first has its place. (That
    // two groups write the same rows is a race, and all that is wrong here.)
    work.groups.assign(2, {9, 7, 0, 17});
    const expert_outcome flooded = run_layer(layer, work, {simt_schedule::random}, 8);
    CHECK(!flooded.report.has(simt_fault::out_of_bounds));
    CHECK(flooded.error.row_code == MOIRA_ERROR_EXPERT_EMPTY);
    CHECK(std::all_of(flooded.out.begin(), flooded.out.end(), [](float value) { return value == 0.0f; }));
}

// Runs a group of one pair between two good ones.
expert_outcome run_odd_group(const expert_layer& layer, uint32_t expert, uint32_t generation,
                             const moira_expert_entry& entry) {
    expert_work work;
    work.add(0, 4); // four tiles, with the rows of x right behind their table
    work.add(expert, 1, generation);
    work.add(2, 3);
    work.number_outputs();
    std::vector<moira_expert_entry> table(layer_experts, {1, 7, 0});
    if (expert < layer_experts)
        table[expert] = entry;
    const expert_outcome outcome = run_layer(layer, work, {simt_schedule::random}, 8, table);
    REQUIRE_MESSAGE(outcome.report.clean(), outcome.report.text());
    for (uint32_t pair = 0; pair < work.pairs.size(); ++pair) {
        const float* out = outcome.out.data() + uint32_t(work.pairs[pair].out_row) * layer.layer_hidden;
        const bool zero = pair == 4 && outcome.error.row_code != ~0ull;
        CHECK((out[0] == 0.0f) == zero);
        CHECK((out[layer.layer_hidden - 1] == 0.0f) == zero);
    }
    CHECK((outcome.error.row_code == ~0ull || outcome.error.row_detail == (1ull << 32 | expert)));
    return outcome;
}

TEST_CASE("groups past the device's count and pairs without a group are not there") {
    const expert_layer layer(MOIRA_TYPE_BF16, MOIRA_FFN_SILU_GATED);
    const expert_work work = ragged_work();
    expert_work more = work;
    more.pairs.resize(work.pairs.size() + 5, {-1, -1});
    more.groups.push_back({9, 1, uint32_t(work.pairs.size()), 5}); // would be an error
    const uint32_t counted = uint32_t(work.groups.size()), too_many = 1000;
    for (const simt_config& config : simt_all_schedules(17)) {
        const expert_outcome plain = run_layer(layer, work, config, 8);
        const expert_outcome outcome = run_layer(layer, more, config, 8, {}, &counted);
        REQUIRE_MESSAGE(outcome.report.clean(), outcome.report.text());
        CHECK(outcome.error.row_code == ~0ull);
        CHECK(std::memcmp(plain.out.data(), outcome.out.data(), plain.out.size() * sizeof(float)) == 0);
        // Never more than the launch said there could be.
        const expert_outcome bounded = run_layer(layer, work, config, 8, {}, &too_many);
        REQUIRE_MESSAGE(bounded.report.clean(), bounded.report.text());
        CHECK(std::memcmp(plain.out.data(), bounded.out.data(), plain.out.size() * sizeof(float)) == 0);
    }
}

TEST_CASE("an empty or stale expert is reported, never read, and its rows are zero") {
    const expert_layer layer(MOIRA_TYPE_BF16, MOIRA_FFN_SILU_GATED, {72, 40});
    const uint32_t layout_id = packed_layout_id(layout_base_mma_tiles, MOIRA_PACK_EXPERT, layer.desc.quantization);
    const uint64_t stale = 1ull << 32 | MOIRA_ERROR_EXPERT_STALE;
    const uint64_t empty = 1ull << 32 | MOIRA_ERROR_EXPERT_EMPTY;
    CHECK(run_odd_group(layer, 1, 7, {1, 7, layout_id}).error.row_code == ~0ull);
    CHECK(run_odd_group(layer, 1, 7, {1, 7, 0}).error.row_code == ~0ull);              // of any layout
    CHECK(run_odd_group(layer, 1, 7, {64, 7, layout_id + 1}).error.row_code == stale); // of another layout
    CHECK(run_odd_group(layer, 1, 8, {64, 7, layout_id}).error.row_code == stale);     // of another generation
    CHECK(run_odd_group(layer, 1, 7, {0, 7, layout_id}).error.row_code == empty);      // not there
    CHECK(run_odd_group(layer, 1, 8, {0, 7, layout_id + 1}).error.row_code == empty);
    CHECK(run_odd_group(layer, layer_experts, 7, {}).error.row_code == empty); // past the table
    CHECK(run_odd_group(layer, 0x80000000u, 7, {}).error.row_code == empty);
}

TEST_CASE("of several unreadable experts, one of them with many rows, the first is reported") {
    const expert_layer layer(MOIRA_TYPE_BF16, MOIRA_FFN_SILU_GATED, {72, 40});
    const uint32_t layout_id = packed_layout_id(layout_base_mma_tiles, MOIRA_PACK_EXPERT, layer.desc.quantization);
    expert_work work;
    work.add(0, 2);
    work.add(1, 7);    // another layout
    work.add(2, 1);    // not there
    work.add(3, 2, 8); // another generation
    work.add(9, 1);    // past the table
    work.number_outputs();
    const std::vector<moira_expert_entry> table{{1, 7, 0}, {64, 7, layout_id + 1}, {0, 7, layout_id}, {64, 7, 0}};
    const expert_outcome outcome = run_layer(layer, work, {simt_schedule::random}, 8, table);
    REQUIRE_MESSAGE(outcome.report.clean(), outcome.report.text());
    CHECK(outcome.error.row_code == (1ull << 32 | MOIRA_ERROR_EXPERT_STALE));
    CHECK(outcome.error.row_detail == (1ull << 32 | 1));
    for (uint32_t pair = 0; pair < work.pairs.size(); ++pair) {
        const float* out = outcome.out.data() + uint32_t(work.pairs[pair].out_row) * layer.layer_hidden;
        CHECK((out[0] == 0.0f) == (pair >= 2));
        CHECK((out[layer.layer_hidden - 1] == 0.0f) == (pair >= 2));
    }
}

TEST_CASE("weights in tiles for mma.sync unpack to what was packed") {
    for (const uint32_t type :
         {MOIRA_TYPE_BF16, MOIRA_TYPE_F16, MOIRA_TYPE_F32, MOIRA_TYPE_F8_E4M3, MOIRA_TYPE_F4_E2M1}) {
        const stored_matrix matrix(type, 35, 164, 3);
        const packing_kernels packing = sm80_packing();
        REQUIRE(sm80_weight_supported(matrix.quantization));
        std::vector<unsigned char> packed(packing.matrix_bytes(matrix.quantization, 35, 164), 0xAA);
        packing.pack_matrix(matrix.quantization, 35, 164, matrix.bytes.data(), 164, 1, matrix.scales.data(),
                            packed.data());
        std::vector<unsigned char> again(matrix.bytes.size(), 0x55);
        packing.unpack_matrix(matrix.quantization, 35, 164, packed.data(), again.data(), 164, 1);
        CHECK(again == matrix.bytes);
    }
}

TEST_CASE("E4M3 weights that are not numbers make what is computed from them not a number") {
    expert_layer layer(MOIRA_TYPE_F8_E4M3, MOIRA_FFN_SILU_GATED);
    layer.matrices[0].bytes[5] = 0xFF;
    expert_work work;
    work.add(0, 1);
    work.add(1, 1);
    work.number_outputs();
    const expert_outcome outcome = run_layer(layer, work, {}, 8);
    CHECK(std::isnan(outcome.out[layer.layer_hidden]));
    CHECK(!std::isnan(outcome.out[0]));
}

TEST_CASE("what the sm_80 kernels cannot do is said in words") {
    moira_expert_ffn_desc experts = expert_layer(MOIRA_TYPE_F8_E4M3, MOIRA_FFN_SILU_GATED).desc;
    CHECK(sm80_expert_ffn_limit(experts) == nullptr);
    experts.quantization.block_k = 64;
    CHECK(sm80_expert_ffn_limit(experts) != nullptr);
    experts.quantization = plain_f32;
    CHECK(sm80_expert_ffn_limit(experts) != nullptr);

    moira_gemm_desc gemm{};
    gemm.quantization = plain_f32;
    CHECK(sm80_gemm_limit(gemm) == nullptr);
    CHECK(sm80_gemm_workspace(gemm) == 0);
    gemm.quantization = stored_matrix(MOIRA_TYPE_F4_E2M1, 16, 32, 1).quantization;
    gemm.compute = MOIRA_COMPUTE_AUTO;
    CHECK(sm80_gemm_limit(gemm) == nullptr);
    gemm.compute = MOIRA_COMPUTE_F32;
    CHECK(sm80_gemm_limit(gemm) != nullptr);

    moira_attention_gqa_desc gqa{};
    gqa.kv_type = MOIRA_TYPE_BF16;
    gqa.head_dim = 128;
    CHECK(sm80_attention_gqa_limit(gqa) == nullptr);
    gqa.head_dim = 100;
    CHECK(sm80_attention_gqa_limit(gqa) != nullptr);
    gqa.head_dim = 128;
    gqa.kv_type = MOIRA_TYPE_F32;
    CHECK(sm80_attention_gqa_limit(gqa) != nullptr);
}

TEST_CASE("more groups than a block has threads are cut into tiles in order") {
    const expert_layer layer(MOIRA_TYPE_BF16, MOIRA_FFN_SILU_GATED);
    expert_work work;
    for (uint32_t group = 0; group < 520; ++group)
        work.add(group % layer_experts, group % 101 == 99 ? 2 : 0);
    work.number_outputs();
    const std::vector<float> expected = reference_layer(layer, work);
    for (const simt_config& config : simt_all_schedules(13)) {
        const expert_outcome outcome = run_layer(layer, work, config, 8);
        REQUIRE_MESSAGE(outcome.report.clean(), outcome.report.text());
        CHECK(worst_relative_error(outcome.out, expected, layer.layer_hidden) < rounding_error_max);
    }
}

TEST_CASE("pairs of no group are not computed, however many tiles stay empty") {
    const expert_layer layer(MOIRA_TYPE_BF16, MOIRA_FFN_SILU_GATED, {72, 40});
    expert_work work;
    work.pairs.assign(300, {0, 0});
    work.groups.assign(300, {0, 7, 0, 0});
    work.number_outputs();
    const expert_outcome outcome = run_layer(layer, work, {simt_schedule::forward}, 8);
    REQUIRE_MESSAGE(outcome.report.clean(), outcome.report.text());
    CHECK(std::all_of(outcome.out.begin(), outcome.out.end(), [](float value) { return std::isnan(value); }));
}

TEST_CASE("wide rows are rounded to their end, and narrow inner layers are not written past theirs") {
    for (const uint32_t type : weight_types) {
        const expert_layer layer(type, MOIRA_FFN_SILU_GATED, {1050, 40});
        expert_work work;
        work.add(3, 9);
        work.number_outputs();
        const std::vector<float> expected = reference_layer(layer, work);
        for (const uint32_t tile_rows : {8u, 32u, 128u}) {
            if (tile_rows != 8 && type != MOIRA_TYPE_BF16)
                continue; // padded to 128, they fill every block's columns
            const expert_outcome outcome = run_layer(layer, work, {simt_schedule::random_greedy}, tile_rows);
            REQUIRE_MESSAGE(outcome.report.clean(), outcome.report.text());
            CHECK(worst_relative_error(outcome.out, expected, layer.layer_hidden) < rounding_error_max);
        }
    }
}

TEST_CASE("a row of the sm_80 expert FFN has the same bits with 1 to 33 rows") {
    for (const uint32_t type : weight_types) {
        const expert_layer layer(type, MOIRA_FFN_SILU_GATED);
        const uint32_t layer_hidden = layer.layer_hidden;
        std::vector<float> alone; // of each row of x
        for (uint32_t rows = 1; rows <= 33; rows += type == MOIRA_TYPE_BF16 ? 1 : 8) {
            expert_work work;
            work.add(1, rows);
            work.number_outputs();
            const uint32_t tile_rows = rows % 11 == 0 ? 128 : 0;
            const expert_outcome outcome = run_layer(layer, work, {simt_schedule::forward}, tile_rows);
            REQUIRE_MESSAGE(outcome.report.clean(), outcome.report.text());
            if (rows <= x_rows)
                alone.resize(x_rows * layer_hidden);
            for (const moira_expert_pair& pair : work.pairs) {
                const float* out = outcome.out.data() + uint32_t(pair.out_row) * layer_hidden;
                float* known = alone.data() + uint32_t(pair.row) * layer_hidden;
                if (known[0] == 0.0f)
                    std::memcpy(known, out, layer_hidden * sizeof(float));
                CHECK(std::memcmp(known, out, layer_hidden * sizeof(float)) == 0);
            }
        }
    }
}

TEST_CASE("the sm_80 expert FFN agrees with the reference under every schedule and tile size") {
    for (const uint32_t type : weight_types)
        for (const uint32_t activation : {MOIRA_FFN_SILU_GATED, MOIRA_FFN_CLAMPED_SWIGLU}) {
            if (type == MOIRA_TYPE_F8_E4M3 && activation == MOIRA_FFN_CLAMPED_SWIGLU)
                continue; // what differs does not depend on the weights
            const expert_layer layer(type, activation);
            const expert_work work = ragged_work();
            const std::vector<float> expected = reference_layer(layer, work);
            std::vector<float> first;
            uint32_t turn = 0;
            for (const simt_config& config : simt_all_schedules(11)) {
                const uint32_t tile_rows = std::vector<uint32_t>{8, 128, 32}[turn++ % 3];
                INFO("type ", type, ", schedule ", int(config.schedule), ", tile of ", tile_rows);
                const expert_outcome outcome = run_layer(layer, work, config, tile_rows);
                REQUIRE_MESSAGE(outcome.report.clean(), outcome.report.text());
                CHECK(outcome.error.row_code == ~0ull);
                CHECK(worst_relative_error(outcome.out, expected, layer.layer_hidden) < rounding_error_max);
                if (first.empty())
                    first = outcome.out;
                CHECK(std::memcmp(first.data(), outcome.out.data(), first.size() * sizeof(float)) == 0);
            }
        }
}

} // namespace moira
