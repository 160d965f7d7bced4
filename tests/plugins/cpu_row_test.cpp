// The ops that work on single rows, the router among them, and lists of launches.
#include "tests/plugins/cpu_plugin_session.hpp"

#include "kernels/float_formats.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

using namespace moira_test;

namespace {

struct route {
    std::vector<int32_t> ids;
    std::vector<double> weights;
};

// The header's words in double, by sorting.
route exact_route(const moira_router_topk_desc& desc, const float* logits, const float* bias) {
    const uint32_t experts = desc.experts;
    std::vector<double> scores(experts), choices(experts);
    double sum = 0.0;
    for (uint32_t i = 0; i < experts; ++i)
        sum += std::exp(double(logits[i]));
    for (uint32_t i = 0; i < experts; ++i) {
        const double e = std::exp(double(logits[i]));
        scores[i] = desc.scoring == MOIRA_SCORE_SOFTMAX   ? e / sum
                    : desc.scoring == MOIRA_SCORE_SIGMOID ? e / (1.0 + e)
                                                          : std::sqrt(std::log(1.0 + e));
        choices[i] = scores[i] + (desc.has_bias ? double(bias[i]) : 0.0);
    }
    const uint32_t members = experts / desc.groups;
    std::vector<uint32_t> groups(desc.groups), order(experts);
    std::vector<double> group_scores(desc.groups);
    std::iota(groups.begin(), groups.end(), 0u);
    std::iota(order.begin(), order.end(), 0u);
    for (uint32_t group = 0; group < desc.groups; ++group) {
        std::vector<double> own(choices.begin() + group * members, choices.begin() + (group + 1) * members);
        std::sort(own.rbegin(), own.rend());
        group_scores[group] = own[0] + (members > 1 ? own[1] : 0.0);
    }
    std::stable_sort(groups.begin(), groups.end(),
                     [&](uint32_t a, uint32_t b) { return group_scores[a] > group_scores[b]; });
    std::vector<int> kept(desc.groups, desc.groups == 1);
    for (uint32_t i = 0; desc.groups > 1 && i < desc.groups_kept; ++i)
        kept[groups[i]] = 1;
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
        return kept[a / members] != kept[b / members] ? kept[a / members] > kept[b / members] : choices[a] > choices[b];
    });
    route chosen;
    double total = desc.normalize ? 0.0 : 1.0;
    for (uint32_t rank = 0; rank < desc.top_k; ++rank) {
        chosen.ids.push_back(int32_t(order[rank]));
        chosen.weights.push_back(scores[order[rank]]);
        total += desc.normalize ? scores[order[rank]] : 0.0;
    }
    for (double& weight : chosen.weights)
        weight = weight / total * double(desc.scale);
    return chosen;
}

moira_router_topk_desc router_desc(uint32_t experts, uint32_t top_k, uint32_t scoring) {
    auto desc = make_desc<moira_router_topk_desc>(MOIRA_OP_ROUTER_TOPK, 64);
    desc.experts = experts;
    desc.top_k = top_k;
    desc.scoring = scoring;
    desc.groups = desc.groups_kept = 1;
    desc.scale = 1.0f;
    return desc;
}

route run_router(cpu_plugin_session& session, const moira_router_topk_desc& desc, const float* logits,
                 const float* bias) {
    std::vector<float> weights(desc.top_k);
    route chosen;
    chosen.ids.resize(desc.top_k);
    const moira_router_topk_args args{1, 0, logits, desc.experts, bias, chosen.ids.data(), weights.data()};
    REQUIRE(session.run(desc, args) == MOIRA_OK);
    chosen.weights.assign(weights.begin(), weights.end());
    return chosen;
}

} // namespace

TEST_CASE("the router chooses and weighs as the naive model does") {
    for (const std::string& name : usable_plugins()) {
        cpu_plugin_session session(name, 1);
        for (const uint32_t scoring : {MOIRA_SCORE_SOFTMAX, MOIRA_SCORE_SIGMOID, MOIRA_SCORE_SQRT_SOFTPLUS}) {
            for (const uint32_t groups : {1u, 4u, 16u}) {
                for (const uint32_t normalize : {0u, 1u}) {
                    CAPTURE(name);
                    CAPTURE(scoring);
                    CAPTURE(groups);
                    CAPTURE(normalize);
                    moira_router_topk_desc desc = router_desc(16, 5, scoring);
                    desc.groups = groups;
                    desc.groups_kept = groups == 1 ? 1 : 2;
                    desc.normalize = normalize;
                    desc.has_bias = 1;
                    desc.scale = 2.5f;
                    for (uint64_t seed = 1; seed <= 20; ++seed) {
                        const auto logits = random_floats(16, seed);
                        const auto bias = random_floats(16, seed + 100);
                        const route expected = exact_route(desc, logits.data(), bias.data());
                        const route got = run_router(session, desc, logits.data(), bias.data());
                        CHECK(got.ids == expected.ids);
                        for (uint32_t rank = 0; rank < desc.top_k; ++rank)
                            CHECK(got.weights[rank] == doctest::Approx(expected.weights[rank]).epsilon(1e-6));
                    }
                }
            }
        }
    }
}

TEST_CASE("equal choices go to the lower id, and equal groups to the lower group") {
    for (const std::string& name : usable_plugins()) {
        cpu_plugin_session session(name, 1);
        const std::vector<float> equal(8, 0.25f);
        moira_router_topk_desc desc = router_desc(8, 3, MOIRA_SCORE_SIGMOID);
        CHECK(run_router(session, desc, equal.data(), nullptr).ids == std::vector<int32_t>{0, 1, 2});
        desc.groups = 4;
        desc.groups_kept = 2;
        CHECK(run_router(session, desc, equal.data(), nullptr).ids == std::vector<int32_t>{0, 1, 2});
        desc.groups_kept = 1; // a group has 2 experts: the third comes from outside
        CHECK(run_router(session, desc, equal.data(), nullptr).ids == std::vector<int32_t>{0, 1, 2});
    }
}

TEST_CASE("a logit that is not a number still gives distinct experts in range") {
    for (const std::string& name : usable_plugins()) {
        cpu_plugin_session session(name, 1);
        const std::vector<float> bad(8, std::nanf(""));
        const route chosen = run_router(session, router_desc(8, 3, MOIRA_SCORE_SIGMOID), bad.data(), nullptr);
        CHECK(chosen.ids == std::vector<int32_t>{0, 1, 2});
    }
}

TEST_CASE("rmsnorm normalises every group of a row, in place too") {
    const uint32_t rows = 3, groups = 2, width = 37, stride = 90;
    for (const std::string& name : usable_plugins()) {
        CAPTURE(name);
        cpu_plugin_session session(name, 2);
        auto desc = make_desc<moira_rmsnorm_desc>(MOIRA_OP_RMSNORM, rows);
        desc.width = width;
        desc.epsilon = 1e-6f;
        const auto in = random_floats(rows * stride, 1);
        const auto weight = random_floats(width, 2);
        auto out = in;
        const moira_rmsnorm_args args{rows, groups, out.data(), out.data(), weight.data(), stride, stride, 40};
        REQUIRE(session.run(desc, args) == MOIRA_OK);
        for (uint32_t row = 0; row < rows; ++row) {
            for (uint32_t group = 0; group < groups; ++group) {
                const float* x = &in[row * stride + group * 40];
                double squares = 0.0;
                for (uint32_t i = 0; i < width; ++i)
                    squares += double(x[i]) * double(x[i]);
                const double factor = 1.0 / std::sqrt(squares / width + double(desc.epsilon));
                for (uint32_t i = 0; i < width; ++i)
                    CHECK(double(out[row * stride + group * 40 + i]) ==
                          doctest::Approx(double(x[i]) * factor * double(weight[i])).epsilon(1e-6));
            }
            CHECK(out[row * stride + 37] == in[row * stride + 37]); // between the groups
        }
    }
}

TEST_CASE("rope turns pairs by the row's angles, adjacent or half a head apart") {
    const uint32_t width = 6, positions = 9;
    std::vector<float> table(positions * width);
    for (uint32_t position = 0; position < positions; ++position) {
        for (uint32_t i = 0; i < width / 2; ++i) {
            table[position * width + i] = std::cos(float(position) / float(i + 1));
            table[position * width + width / 2 + i] = std::sin(float(position) / float(i + 1));
        }
    }
    for (const std::string& name : usable_plugins()) {
        for (const uint32_t interleaved : {0u, 1u}) {
            CAPTURE(name);
            CAPTURE(interleaved);
            cpu_plugin_session session(name, 1);
            auto desc = make_desc<moira_rope_desc>(MOIRA_OP_ROPE, 2);
            desc.heads = 2;
            desc.width = width;
            desc.interleaved = interleaved;
            desc.positions = positions;
            const auto in = random_floats(2 * 20, 1);
            auto x = in;
            const int32_t at[] = {8, 3};
            const moira_rope_args args{2, 0, x.data(), 20, 10, at, table.data()};
            REQUIRE(session.run(desc, args) == MOIRA_OK);
            for (uint32_t row = 0; row < 2; ++row) {
                for (uint32_t head = 0; head < 2; ++head) {
                    for (uint32_t i = 0; i < width / 2; ++i) {
                        const uint32_t a = row * 20 + head * 10 + (interleaved ? 2 * i : i);
                        const uint32_t b = interleaved ? a + 1 : a + width / 2;
                        const double angle = double(float(at[row]) / float(i + 1));
                        const double first = double(in[a]) * std::cos(angle) - double(in[b]) * std::sin(angle);
                        const double second = double(in[b]) * std::cos(angle) + double(in[a]) * std::sin(angle);
                        CHECK(std::fabs(double(x[a]) - first) < 1e-6);
                        CHECK(std::fabs(double(x[b]) - second) < 1e-6);
                    }
                }
            }
            const int32_t outside[] = {1, int32_t(positions)};
            const moira_rope_args wrong{2, 0, x.data(), 20, 10, outside, table.data()};
            REQUIRE(session.run(desc, wrong) == MOIRA_OK);
            CHECK(session.error_word().row == 1);
        }
    }
}

TEST_CASE("embedding widens table rows, and an id outside gives zeros and the error word") {
    const uint32_t vocabulary = 5, width = 3;
    const auto table = random_floats(vocabulary * width, 1, true);
    std::vector<uint16_t> narrow;
    for (const float value : table)
        narrow.push_back(moira::float_to_bf16(value));
    for (const std::string& name : usable_plugins()) {
        CAPTURE(name);
        cpu_plugin_session session(name, 1);
        auto desc = make_desc<moira_embedding_desc>(MOIRA_OP_EMBEDDING, 3);
        desc.vocabulary = vocabulary;
        desc.width = width;
        desc.weight_type = MOIRA_TYPE_BF16;
        const int32_t ids[] = {4, -1, 5};
        std::vector<float> out(3 * width, 9.0f);
        REQUIRE(session.run(desc, moira_embedding_args{3, 0, ids, narrow.data(), out.data()}) == MOIRA_OK);
        CHECK(std::equal(out.begin(), out.begin() + width, table.begin() + 4 * width));
        CHECK(std::count(out.begin() + width, out.end(), 0.0f) == 2 * width);
        const moira_error_word word = session.error_word();
        CHECK(word.code == MOIRA_ERROR_TOKEN_OUT_OF_RANGE);
        CHECK(word.row == 1);
        CHECK(word.detail == -1);
    }
}

TEST_CASE("kv_append writes the slots it is told and no other") {
    for (const std::string& name : usable_plugins()) {
        CAPTURE(name);
        cpu_plugin_session session(name, 1);
        auto desc = make_desc<moira_kv_append_desc>(MOIRA_OP_KV_APPEND, 3);
        desc.width = 4;
        desc.kv_type = MOIRA_TYPE_F32;
        desc.slots = 6;
        const auto in = random_floats(3 * 5, 1);
        std::vector<float> pool(6 * 7, 0.0f);
        const int32_t slots[] = {5, 6, 2};
        REQUIRE(session.run(desc, moira_kv_append_args{3, 0, in.data(), 5, slots, pool.data(), 7}) == MOIRA_OK);
        CHECK(std::equal(pool.begin() + 35, pool.begin() + 39, in.begin()));
        CHECK(std::equal(pool.begin() + 14, pool.begin() + 18, in.begin() + 10));
        CHECK(std::count(pool.begin(), pool.end(), 0.0f) == 42 - 8);
        CHECK(session.error_word().code == MOIRA_ERROR_PAGE_OUT_OF_RANGE);
    }
}

TEST_CASE("combine adds experts in rank order with the bits of the reference") {
    const uint32_t rows = 2, width = 21;
    for (const uint32_t top_k : {0u, 3u}) {
        std::vector<float> first;
        for (const std::string& name : usable_plugins()) {
            CAPTURE(name);
            CAPTURE(top_k);
            cpu_plugin_session session(name, 1);
            auto desc = make_desc<moira_combine_desc>(MOIRA_OP_COMBINE, rows);
            desc.width = width;
            desc.top_k = top_k;
            desc.has_shared = 1;
            const auto experts = random_floats(rows * 3 * width, 1);
            const auto weights = random_floats(rows * 3, 2);
            const auto shared = random_floats(rows * width, 3);
            auto residual = random_floats(rows * width, 4);
            const moira_combine_args args{
                rows,           0, top_k ? experts.data() : nullptr, top_k ? weights.data() : nullptr, shared.data(),
                residual.data()};
            REQUIRE(session.run(desc, args) == MOIRA_OK);
            if (first.empty()) {
                first = residual;
                const float before = random_floats(1, 4)[0];
                float sum = 0.0f;
                for (uint32_t rank = 0; rank < top_k; ++rank)
                    sum += weights[rank] * experts[rank * width];
                CHECK(residual[0] == doctest::Approx(before + sum + shared[0]).epsilon(1e-6));
            }
            CHECK(std::memcmp(first.data(), residual.data(), residual.size() * sizeof(float)) == 0);
        }
    }
}

TEST_CASE("a list runs in order and wakes the team once") {
    const uint32_t width = 512, rows = 2;
    for (const std::string& name : usable_plugins()) {
        CAPTURE(name);
        std::vector<float> first;
        for (const uint32_t team : {1u, 3u}) {
            cpu_plugin_session session(name, team);
            auto norm = make_desc<moira_rmsnorm_desc>(MOIRA_OP_RMSNORM, rows);
            norm.width = width;
            const stored_weight weight = random_weight(MOIRA_TYPE_BF16, width, width, 3);
            auto gemm = make_desc<moira_gemm_desc>(MOIRA_OP_GEMM, rows);
            gemm.n = gemm.k = width;
            gemm.quantization = weight.quantization;
            moira_pack_desc pack{};
            pack.struct_size = sizeof pack;
            pack.n = pack.k = width;
            pack.quantization = weight.quantization;
            auto x = random_floats(rows * width, 4);
            std::vector<float> y(rows * width);
            const std::vector<float> ones(width, 1.0f);
            const moira_rmsnorm_args norm_x{rows, 1, x.data(), x.data(), ones.data(), width, width, 0};
            const moira_gemm_args forth{
                rows,    0,        x.data(), width,  session.pack(pack, {{weight.bytes.data(), nullptr, nullptr}}),
                nullptr, y.data(), width,    nullptr};
            moira_gemm_args back = forth;
            back.x = y.data();
            back.out = x.data();
            moira_op* norm_op = nullptr;
            moira_op* gemm_op = nullptr;
            void* workspace = nullptr;
            REQUIRE(session.prepare(norm.header, &norm_op, &workspace) == MOIRA_OK);
            REQUIRE(session.prepare(gemm.header, &gemm_op, &workspace) == MOIRA_OK);
            const moira_launch list[] = {{norm_op, &norm_x}, {gemm_op, &forth}, {gemm_op, &back},  {norm_op, &norm_x},
                                         {norm_op, &norm_x}, {gemm_op, &forth}, {norm_op, &norm_x}};
            REQUIRE(session.api().launch(session.stream(), list, 7) == MOIRA_OK);
            REQUIRE(session.api().stream_synchronize(session.stream()) == MOIRA_OK);
            CHECK(session.team_runs() == (team == 1 ? 0 : 1));
            x.insert(x.end(), y.begin(), y.end());
            if (first.empty())
                first = x;
            CHECK(std::memcmp(first.data(), x.data(), x.size() * sizeof(float)) == 0);
            session.api().op_destroy(norm_op);
            session.api().op_destroy(gemm_op);
        }
    }
}

TEST_CASE("buffers, copies and events of a CPU device are done when the call returns") {
    for (const std::string& name : usable_plugins()) {
        CAPTURE(name);
        cpu_plugin_session session(name, 1);
        const moira_plugin_api& api = session.api();
        moira_buffer* buffer = nullptr;
        CHECK(api.buffer_create(session.device(), 0, 64, &buffer) == MOIRA_INVALID_ARGUMENT);
        CHECK(api.buffer_create(session.device(), 64, 3, &buffer) == MOIRA_INVALID_ARGUMENT);
        CHECK(api.buffer_create(session.device(), uint64_t{1} << 60, 64, &buffer) == MOIRA_OUT_OF_MEMORY);
        REQUIRE(api.buffer_create(session.device(), 100, 256, &buffer) == MOIRA_OK);
        CHECK(reinterpret_cast<uintptr_t>(api.buffer_address(buffer)) % 256 == 0);
        const char text[] = "in order";
        char back[sizeof text] = "";
        moira_event* event = nullptr;
        REQUIRE(api.event_create(session.device(), &event) == MOIRA_OK);
        REQUIRE(api.copy_to_device(session.stream(), api.buffer_address(buffer), text, sizeof text) == MOIRA_OK);
        REQUIRE(api.copy_to_host(session.stream(), back, api.buffer_address(buffer), sizeof text) == MOIRA_OK);
        REQUIRE(api.event_record(session.stream(), event) == MOIRA_OK);
        uint32_t done = 0;
        REQUIRE(api.event_done(event, &done) == MOIRA_OK);
        CHECK(done == 1);
        CHECK(std::strcmp(text, back) == 0);
        api.event_destroy(event);
        api.buffer_destroy(buffer);
    }
}
