#include "core/plan/hit_curve.hpp"
#include "core/plan/model_plan.hpp"
#include "core/plan/route_hits.hpp"
#include "core/simulate/store_replay.hpp"
#include "tests/plan/planned_model.hpp"
#include "tests/simulate/small_traces.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

/// One sequence of the round model whose tokens all choose `even`, or by turns `even` and `odd`.
route_trace recording(std::uint32_t tokens, bool turns) {
    route_trace trace;
    trace.layers = 4;
    trace.experts = 8;
    trace.top_k = 2;
    trace.layer_numbers = {0, 1, 2, 3};
    route_sequence sequence;
    sequence.tokens = tokens;
    for (std::uint32_t token = 0; token < tokens; ++token)
        for (int layer = 0; layer < 4; ++layer) {
            const std::uint16_t first = turns && token % 2 == 1 ? 2 : 0;
            sequence.ids.push_back(first);
            sequence.ids.push_back(static_cast<std::uint16_t>(first + 1));
        }
    trace.sequences.push_back(sequence);
    return trace;
}

} // namespace

TEST_CASE("curves begin at none and end at all, and only rise") {
    for (const auto* curve : {&uniform_hits(), &skewed_hits()}) {
        CHECK(curve->at(0) == 0.0);
        CHECK(curve->at(1) == 1.0);
        CHECK(curve->at(-1) == 0.0);
        CHECK(curve->at(2) == 1.0);
        for (int step = 0; step < 100; ++step)
            CHECK(curve->at(step / 100.0) <= curve->at((step + 1) / 100.0));
    }
    CHECK(uniform_hits().at(0.25) == doctest::Approx(0.25));
    // Between the points, as simulated: moira trace replay --policy foresight --warm-up 31367 --cache 37.5%
    CHECK(skewed_hits().at(0.25) == doctest::Approx(0.719).epsilon(0.01));
    CHECK(skewed_hits().at(0.375) == doctest::Approx(0.855).epsilon(0.01));
    CHECK(skewed_hits()(96, 768).value() == skewed_hits().at(0.125));
}

TEST_CASE("a recording says at which size its experts return") {
    const auto same = hits_of_routes(recording(50, false), round_model(), "foresight");
    REQUIRE(same);
    CHECK((*same)(8, 32) == 1.0);
    CHECK((*same)(1, 32) == 0.0);
    const auto turns = hits_of_routes(recording(50, true), round_model(), "lru");
    REQUIRE(turns);
    CHECK((*turns)(8, 32) == 0.0); // least recently used: always the wrong ones
    CHECK((*turns)(16, 32) == 1.0);
    CHECK((*turns)(32, 32) == 1.0);
    CHECK((*turns)(32, 64) == 1.0); // a recording of half of the layers
}

TEST_CASE("hit rates are the simulator's, of every token as if it were generated") {
    auto trace = small_trace({.layers = 4, .experts = 8, .top_k = 2, .sequences = 6, .tokens = 20}, 5);
    const auto plain = trace;
    const auto walk = expert_walk::create(plain, {});
    REQUIRE(walk);
    for (auto& sequence : trace.sequences)
        sequence.prompt_tokens = sequence.tokens / 2;
    for (const char* name : {"lru", "foresight"}) {
        const auto hits = hits_of_routes(trace, round_model(), name);
        REQUIRE(hits);
        for (const slot_index slots : {2, 9, 16, 27}) {
            auto policy = make_eviction_policy(name, {.layers = 4, .experts = 8, .moe_layers = 4});
            REQUIRE(policy);
            replay_options options;
            options.slots = slots;
            options.warm_up_steps = walk->steps() / 2;
            const auto counts = replay_store(*walk, options, **policy);
            REQUIRE(counts);
            CAPTURE(name);
            CAPTURE(slots);
            CHECK((*hits)(static_cast<std::uint64_t>(slots), 32) == counts->hit_rate());
        }
    }
}

TEST_CASE("playing a recording can be ended") {
    const auto hits = hits_of_routes(recording(50, true), round_model(), "lru", [] { return true; });
    REQUIRE(hits);
    CHECK((*hits)(8, 32).error().code == errc::cancelled);
    auto wish = small_wish();
    wish.budget_bytes = std::uint64_t{8} << 20;
    const auto plan = make_plan(round_model(), wish, std::uint64_t{1} << 30, {10, 0.5}, *hits, *hits);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::cancelled);
}

TEST_CASE("a recording of another model, or of nothing, is refused, and so is a policy that does not exist") {
    auto other = recording(4, false);
    other.experts = 16;
    CHECK(hits_of_routes(other, round_model(), "lru").error().code == errc::invalid_argument);
    CHECK(hits_of_routes(recording(1, false), round_model(), "lru").error().code == errc::invalid_argument);
    CHECK(hits_of_routes(recording(0, false), round_model(), "lru").error().code == errc::invalid_argument);
    CHECK(hits_of_routes(recording(4, false), round_model(), "best").error().code == errc::invalid_argument);
}
