// expert_ffn of the CPU plugins: ragged groups, missing experts, row-exactness.
#include "kernels/float_formats.hpp"
#include "tests/plugins/cpu_plugin_session.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace moira_test;

namespace {

void round_to_bf16(std::vector<double>& values) {
    for (double& value : values)
        value = double(moira::bf16_to_float(moira::float_to_bf16(float(value))));
}

// A small layer of experts with biases, and the same computed in double.
struct expert_layer {
    uint32_t hidden = 0;
    uint32_t inner = 0;
    uint32_t experts = 0;
    uint32_t weight_type = MOIRA_TYPE_BF16;
    uint32_t activation = MOIRA_FFN_SILU_GATED;
    std::vector<stored_weight> weights; // gate, up, down per expert
    std::vector<std::vector<float>> biases;
    std::vector<moira_expert_entry> table;

    expert_layer(uint32_t hidden_size, uint32_t inner_size, uint32_t count, uint32_t type)
        : hidden(hidden_size), inner(inner_size), experts(count), weight_type(type) {
        for (uint32_t expert = 0; expert < count; ++expert) {
            for (uint32_t part = 0; part < 3; ++part) {
                const uint32_t n = part == 2 ? hidden : inner;
                weights.push_back(random_weight(type, n, part == 2 ? inner : hidden, expert * 3 + part + 50));
                biases.push_back(random_floats(n, expert * 3 + part + 90));
            }
        }
    }

    moira_expert_ffn_desc desc(uint32_t pairs_max) const {
        auto made = make_desc<moira_expert_ffn_desc>(MOIRA_OP_EXPERT_FFN, pairs_max);
        made.hidden = hidden;
        made.inner = inner;
        made.experts = experts;
        made.activation = activation;
        made.alpha = 1.702f;
        made.limit = 2.0f;
        made.quantization = weights[0].quantization;
        return made;
    }

    void pack(cpu_plugin_session& session) {
        moira_pack_desc pack{};
        pack.struct_size = sizeof pack;
        pack.kind = MOIRA_PACK_EXPERT;
        pack.n = inner;
        pack.k = hidden;
        pack.quantization = weights[0].quantization;
        moira_pack_info info{};
        info.struct_size = sizeof info;
        REQUIRE(session.api().pack_query(session.device(), &pack, &info) == MOIRA_OK);
        table.clear();
        for (uint32_t expert = 0; expert < experts; ++expert) {
            std::vector<moira_pack_source> sources;
            for (uint32_t part = 0; part < 3; ++part) {
                const stored_weight& weight = weights[expert * 3 + part];
                sources.push_back({weight.bytes.data(), weight.scales.empty() ? nullptr : weight.scales.data(),
                                   biases[expert * 3 + part].data()});
            }
            table.push_back({reinterpret_cast<uint64_t>(session.pack(pack, sources)), expert + 1, info.layout_id});
        }
    }

    std::vector<double> product(uint32_t expert, uint32_t part, const std::vector<double>& x) const {
        const auto& bias = biases[expert * 3 + part];
        std::vector<double> out(bias.begin(), bias.end());
        for (size_t row = 0; row < out.size(); ++row)
            for (size_t i = 0; i < x.size(); ++i)
                out[row] += double(weights[expert * 3 + part].values[row * x.size() + i]) * x[i];
        return out;
    }

    // rounds: as a plugin does that rounds what it multiplies to BF16.
    std::vector<double> exact(uint32_t expert, const float* x, bool rounds) const {
        std::vector<double> in(x, x + hidden);
        if (rounds)
            round_to_bf16(in);
        const auto gate = product(expert, 0, in);
        const auto up = product(expert, 1, in);
        std::vector<double> act(inner);
        for (uint32_t i = 0; i < inner; ++i) {
            if (activation == MOIRA_FFN_SILU_GATED) {
                act[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
            } else {
                const double g = std::min(gate[i], 2.0);
                act[i] = g / (1.0 + std::exp(-double(1.702f) * g)) * (std::clamp(up[i], -2.0, 2.0) + 1.0);
            }
        }
        if (rounds)
            round_to_bf16(act);
        return product(expert, 2, act);
    }
};

// pairs_of[e] pairs for expert e: rows in turn, outputs scattered so that their order is not the pairs'.
struct expert_launch {
    std::vector<moira_expert_group> groups;
    std::vector<moira_expert_pair> pairs;

    explicit expert_launch(const std::vector<uint32_t>& pairs_of, uint32_t rows) {
        uint32_t total = 0;
        for (const uint32_t count : pairs_of)
            total += count;
        for (uint32_t expert = 0; expert < pairs_of.size(); ++expert) {
            groups.push_back({expert, expert + 1, uint32_t(pairs.size()), pairs_of[expert]});
            for (uint32_t i = 0; i < pairs_of[expert]; ++i)
                pairs.push_back({int32_t(pairs.size() % rows), int32_t(total - 1 - pairs.size())});
        }
    }

    moira_expert_ffn_args args(const expert_layer& layer, const float* x, float* out) const {
        moira_expert_ffn_args made{};
        made.groups = uint32_t(groups.size());
        made.pairs = uint32_t(pairs.size());
        made.x = x;
        made.x_stride = layer.hidden;
        made.table = layer.table.data();
        made.group_table = groups.data();
        made.pair_table = pairs.data();
        made.out = out;
        made.out_stride = layer.hidden;
        return made;
    }
};

constexpr auto workspace_member = &moira_expert_ffn_args::workspace;

} // namespace

TEST_CASE("expert_ffn agrees with sums in double over ragged and empty groups") {
    const std::vector<uint32_t> pairs_of = {3, 0, 55, 1, 0};
    const uint32_t rows = 9;
    for (const std::string& name : usable_plugins()) {
        for (const uint32_t type : {MOIRA_TYPE_F32, MOIRA_TYPE_BF16, MOIRA_TYPE_F8_E4M3}) {
            for (const uint32_t activation : {MOIRA_FFN_SILU_GATED, MOIRA_FFN_CLAMPED_SWIGLU}) {
                CAPTURE(name);
                CAPTURE(type);
                CAPTURE(activation);
                cpu_plugin_session session(name, 2);
                expert_layer layer(33, 70, uint32_t(pairs_of.size()), type);
                layer.activation = activation;
                layer.pack(session);
                const expert_launch launch(pairs_of, rows);
                const auto x = random_floats(uint64_t{rows} * layer.hidden, 5);
                std::vector<float> out(launch.pairs.size() * layer.hidden);
                const auto args = launch.args(layer, x.data(), out.data());
                REQUIRE(session.run(layer.desc(uint32_t(launch.pairs.size())), args, workspace_member) == MOIRA_OK);
                CHECK(session.error_word().code == MOIRA_ERROR_NONE);
                const bool rounds = name == "cpu_avx512" && type != MOIRA_TYPE_F32;
                double error = 0.0;
                double size = 0.0;
                for (const moira_expert_group& group : launch.groups) {
                    for (uint32_t i = 0; i < group.pair_count; ++i) {
                        const moira_expert_pair& pair = launch.pairs[group.pair_begin + i];
                        const auto expected = layer.exact(group.expert, &x[uint64_t(pair.row) * layer.hidden], rounds);
                        for (uint32_t column = 0; column < layer.hidden; ++column) {
                            const double got = double(out[uint64_t(pair.out_row) * layer.hidden + column]);
                            error += (got - expected[column]) * (got - expected[column]);
                            size += expected[column] * expected[column];
                        }
                    }
                }
                // What rounds differs where an inner value lies close to a tie. F8 weights reach 448, so that sums
                // cancel more.
                const double exact_limit = type == MOIRA_TYPE_F8_E4M3 ? 1e-5 : 2e-6;
                CHECK(std::sqrt(error / size) < (rounds ? 0x1p-8 : exact_limit));
            }
        }
    }
}

TEST_CASE("an expert's output has the same bits for any neighbours and any team") {
    const std::vector<uint32_t> pairs_of = {5, 1, 60, 7};
    const uint32_t rows = 11;
    for (const std::string& name : usable_plugins())
        for (const uint32_t type : {MOIRA_TYPE_BF16, MOIRA_TYPE_F8_E4M3}) {
            CAPTURE(name);
            CAPTURE(type);
            std::vector<float> first;
            for (const uint32_t team : {1u, 2u, 3u}) {
                cpu_plugin_session session(name, team);
                expert_layer layer(192, 130, uint32_t(pairs_of.size()), type);
                layer.pack(session);
                const auto x = random_floats(uint64_t{rows} * layer.hidden, 5);
                const expert_launch launch(pairs_of, rows);
                std::vector<float> out(launch.pairs.size() * layer.hidden);
                const auto desc = layer.desc(uint32_t(launch.pairs.size()));
                REQUIRE(session.run(desc, launch.args(layer, x.data(), out.data()), workspace_member) == MOIRA_OK);
                CHECK((team == 1) == (session.team_runs() == 0));
                if (first.empty())
                    first = out;
                CHECK(std::memcmp(first.data(), out.data(), out.size() * sizeof(float)) == 0);
                // Every pair in a launch of its own.
                std::vector<float> alone(out.size());
                for (const moira_expert_group& group : launch.groups) {
                    for (uint32_t i = 0; i < group.pair_count; ++i) {
                        const moira_expert_group single{group.expert, group.generation, group.pair_begin + i, 1};
                        auto args = launch.args(layer, x.data(), alone.data());
                        args.groups = 1;
                        args.group_table = &single;
                        REQUIRE(session.run(desc, args, workspace_member) == MOIRA_OK);
                    }
                }
                CHECK(std::memcmp(first.data(), alone.data(), out.size() * sizeof(float)) == 0);
            }
        }
}

TEST_CASE("an expert that is empty, stale or of another layout sets the error word and is never read") {
    for (const std::string& name : usable_plugins()) {
        CAPTURE(name);
        cpu_plugin_session session(name, 2);
        expert_layer layer(48, 64, 4, MOIRA_TYPE_BF16);
        layer.pack(session);
        const uint32_t layout_id = layer.table[1].layout_id;
        const expert_launch launch({2, 2, 2, 2}, 2);
        const auto x = random_floats(2 * layer.hidden, 5);
        std::vector<float> out(launch.pairs.size() * layer.hidden, 77.0f);
        const auto run = [&] {
            const auto args = launch.args(layer, x.data(), out.data());
            REQUIRE(session.run(layer.desc(8), args, workspace_member) == MOIRA_OK);
            CHECK(session.api().stream_synchronize(session.stream()) == MOIRA_STEP_ERROR);
            return session.error_word();
        };
        layer.table[1] = {0, 2, layout_id};
        layer.table[2] = {64, 99, layout_id}; // an address that cannot be read
        moira_error_word word = run();
        CHECK(word.code == MOIRA_ERROR_EXPERT_EMPTY); // the first in group order
        CHECK(word.op == MOIRA_OP_EXPERT_FFN);
        CHECK(word.row == 1);
        CHECK(session.error_word().code == MOIRA_ERROR_NONE); // reading clears it
        CHECK(session.api().stream_synchronize(session.stream()) == MOIRA_OK);
        for (const moira_expert_group& group : launch.groups) {
            const bool missing = group.expert == 1 || group.expert == 2;
            const moira_expert_pair& pair = launch.pairs[group.pair_begin];
            CHECK((out[uint64_t(pair.out_row) * layer.hidden] == 0.0f) == missing);
        }
        layer.table[1] = {64, 3, layout_id};
        CHECK(run().code == MOIRA_ERROR_EXPERT_STALE);
        layer.table[1] = {64, 2, layout_id + 1};
        layer.table[2] = layer.table[3];
        CHECK(run().code == MOIRA_ERROR_EXPERT_STALE);
    }
}

TEST_CASE("groups that overrun their pairs are refused") {
    cpu_plugin_session session("cpu_reference", 1);
    expert_layer layer(16, 16, 1, MOIRA_TYPE_F32);
    layer.pack(session);
    expert_launch launch({2}, 1);
    std::vector<float> x(16), out(32);
    launch.groups[0].pair_count = 3;
    CHECK(session.run(layer.desc(4), launch.args(layer, x.data(), out.data()), workspace_member) ==
          MOIRA_INVALID_ARGUMENT);
    launch.groups[0] = {0, 1, 0xFFFFFFFFu, 2};
    CHECK(session.run(layer.desc(4), launch.args(layer, x.data(), out.data()), workspace_member) ==
          MOIRA_INVALID_ARGUMENT);
    launch.groups[0] = {0, 1, 0, 2};
    launch.pairs[1].row = -1;
    CHECK(session.run(layer.desc(4), launch.args(layer, x.data(), out.data()), workspace_member) ==
          MOIRA_INVALID_ARGUMENT);
    launch.pairs[1].row = 0;
    CHECK(session.run(layer.desc(1), launch.args(layer, x.data(), out.data()), workspace_member) ==
          MOIRA_INVALID_ARGUMENT);
}
