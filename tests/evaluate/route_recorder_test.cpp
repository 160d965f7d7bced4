#include "core/evaluate/prompt_pass.hpp"
#include "core/evaluate/route_recorder.hpp"
#include "core/simulate/store_replay.hpp"
#include "tests/execute/test_engine.hpp"

#include <algorithm>
#include <doctest/doctest.h>

using namespace moira;

namespace {

test_engine opened(const std::string& model, std::int32_t rows_max, std::uint64_t budget_bytes = 0) {
    test_engine::wanted how;
    how.options.context_max = 64;
    how.options.rows_max = rows_max;
    how.options.sequences_max = 1;
    if (budget_bytes > 0) {
        how.options.experts_budget_share = 0;
        how.options.experts_budget_bytes = budget_bytes;
    }
    return test_engine::required(golden_folder(model), how);
}

std::vector<std::int32_t> layer_of(const route_trace& trace, const route_sequence& sequence, std::uint32_t layer) {
    std::vector<std::int32_t> all;
    for (std::uint32_t token = 0; token < sequence.tokens; ++token) {
        const auto ids = trace.ids(sequence, token, layer);
        all.insert(all.end(), ids.begin(), ids.end());
    }
    return all;
}

} // namespace

TEST_CASE("a recording holds what each layer chose, whatever the steps, and of layers with experts only") {
    const auto ids = some_tokens(23);
    for (const std::string name : {"deepseek_v3", "olmoe", "qwen3_moe"}) {
        auto whole = opened(name, 64);
        prompt_pass_options wanted;
        wanted.routing = true;
        const auto pass = run_prompt(*whole.model, ids, wanted);
        REQUIRE(pass);
        for (const std::int32_t rows_max : {5, 64}) {
            auto engine = opened(name, rows_max);
            auto recorder = route_recorder::create(*engine.model);
            REQUIRE(recorder);
            const auto generated = recorder->record(ids, 23, 0);
            REQUIRE(generated);
            CHECK(generated->empty());
            const auto& trace = recorder->trace();
            REQUIRE(trace.sequences.size() == 1);
            const auto& sequence = trace.sequences[0];
            CHECK(sequence.tokens == 23);
            CHECK(sequence.prompt_tokens == 23);
            CHECK(trace.layers == pass->routing.size());
            std::uint32_t layer = 0;
            for (const auto& [number, chosen] : pass->routing) {
                CHECK(trace.layer_numbers[layer] == number);
                CHECK(layer_of(trace, sequence, layer++) == chosen);
            }
            // The best expert has the largest weight, and none is zero.
            for (std::size_t first = 0; first < sequence.weights.size(); first += trace.top_k) {
                const auto row = std::span(sequence.weights).subspan(first, trace.top_k);
                CHECK(*std::min_element(row.begin(), row.end()) > 0);
                if (name != "deepseek_v3") // there a bias that is no part of the weight has a say in the choice
                    CHECK(std::is_sorted(row.rbegin(), row.rend()));
            }
        }
    }
}

TEST_CASE("what a prompt is continued with is recorded as the same text at once would be") {
    auto engine = opened("qwen3_moe", 16);
    auto recorder = route_recorder::create(*engine.model);
    REQUIRE(recorder);
    auto text = some_tokens(9);
    const auto generated = recorder->record(text, 9, 8);
    REQUIRE(generated);
    REQUIRE_FALSE(generated->empty());
    // The last generated token was not run.
    text.insert(text.end(), generated->begin(), generated->end());
    CHECK(recorder->trace().sequences[0].prompt_tokens == 9);
    text.resize(recorder->trace().sequences[0].tokens);
    CHECK(text.size() + 1 >= 9 + generated->size());
    REQUIRE(recorder->record(text, 0, 0));
    const auto& sequences = recorder->trace().sequences;
    CHECK(sequences[0].ids == sequences[1].ids);
    CHECK(sequences[0].weights == sequences[1].weights);
    CHECK(sequences[1].prompt_tokens == 0);
}

TEST_CASE("the simulator counts what the engine counted on the run that was recorded") {
    for (const std::string name : {"deepseek_v3", "olmoe", "qwen3_moe"}) {
        const auto whole = opened(name, 1);
        const auto& shape = whole.model->shape();
        const auto slab_bytes = whole.model->slab_bytes();
        for (const std::uint64_t extra : {0, 3, 9}) {
            const auto floor = static_cast<std::uint64_t>(shape.moe_layers() * shape.moe.top_k);
            auto engine = opened(name, 1, (floor + extra) * slab_bytes);
            auto recorder = route_recorder::create(*engine.model);
            REQUIRE(recorder);
            REQUIRE(recorder->record(some_tokens(12), 0, 20));
            const auto counted = engine.model->expert_statistics();
            const auto walk = expert_walk::create(recorder->trace(), {});
            REQUIRE(walk);
            auto policy = make_eviction_policy(
                counted.policy,
                {.layers = shape.layers, .experts = shape.moe.experts, .moe_layers = shape.moe_layers()});
            REQUIRE(policy);
            const auto simulated = replay_store(
                *walk,
                {.slots = static_cast<slot_index>(counted.slots),
                 .model_layers = shape.layers,
                 .travelling_max = static_cast<std::uint32_t>(engine.model->experts().travelling_max())},
                **policy);
            REQUIRE(simulated);
            CHECK(simulated->hits == counted.hits);
            CHECK(simulated->demand_loads == counted.demand_loads);
            CHECK(simulated->evictions == counted.evictions);
        }
    }
}

TEST_CASE("interrupted: what was run is kept; texts that cannot be run are refused") {
    auto engine = opened("olmoe", 4);
    auto recorder = route_recorder::create(*engine.model);
    REQUIRE(recorder);
    int asked = 0;
    REQUIRE(recorder->record(some_tokens(20), 20, 5, [&asked] { return ++asked == 2; }));
    CHECK(recorder->trace().sequences[0].tokens == 8);
    CHECK(recorder->trace().sequences[0].prompt_tokens == 8);
    CHECK(recorder->record({}, 0, 1).error().code == errc::invalid_argument);
    CHECK(recorder->record(some_tokens(65), 0, 1).error().code == errc::prompt_too_long);
    CHECK(recorder->trace().sequences.size() == 1);
}
