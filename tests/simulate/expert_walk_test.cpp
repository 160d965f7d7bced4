#include "core/simulate/expert_walk.hpp"
#include "tests/simulate/small_traces.hpp"

#include <doctest/doctest.h>
#include <set>

using namespace moira;

namespace {

/// One layer, top 1; sequence s holds the experts given.
route_trace one_layer(const std::vector<std::vector<std::uint16_t>>& sequences) {
    route_trace trace{.layers = 1, .experts = 64, .top_k = 1, .layer_numbers = {0}};
    for (const auto& ids : sequences) {
        route_sequence sequence{.tokens = static_cast<std::uint32_t>(ids.size()), .ids = ids};
        sequence.weights.assign(ids.size(), 1.0F);
        trace.sequences.push_back(sequence);
    }
    return trace;
}

std::vector<std::vector<int>> wanted_by_step(const expert_walk& walk) {
    std::vector<std::vector<int>> steps;
    for (std::size_t step = 0; step < walk.steps(); ++step) {
        const auto experts = walk.experts(step, 0);
        steps.emplace_back(experts.begin(), experts.end());
    }
    return steps;
}

} // namespace

TEST_CASE("a row goes on with the next sequence that nobody has begun; when none is left, steps become narrower") {
    const auto trace = one_layer({{1, 2, 3, 4}, {11, 12}, {21, 22, 23}, {31}});
    const auto walk = expert_walk::create(trace, {.batch = 2});
    REQUIRE(walk);
    CHECK(wanted_by_step(*walk) == std::vector<std::vector<int>>{{1, 11}, {2, 12}, {3, 21}, {4, 22}, {23, 31}});
    CHECK(walk->tokens() == 10);
    CHECK(walk->rows(2)[1].sequence == 2);
    CHECK(walk->rows(2)[1].token == 0);
    const auto wide = expert_walk::create(trace, {.batch = 9});
    REQUIRE(wide);
    CHECK(wanted_by_step(*wide) == std::vector<std::vector<int>>{{1, 11, 21, 31}, {2, 12, 22}, {3, 23}, {4}});
}

TEST_CASE("repeated: every row plays its own sequences over and over") {
    const auto trace = one_layer({{1, 2}, {11}, {21}});
    const auto walk = expert_walk::create(trace, {.batch = 2, .repeat = true, .steps_max = 5});
    REQUIRE(walk);
    // Row 0: 0, 2, 1, 0, ...; row 1: 1, 0, 2, ...
    CHECK(wanted_by_step(*walk) == std::vector<std::vector<int>>{{1, 11}, {1, 2}, {2, 21}, {11, 21}, {1, 11}});
    const auto wide = expert_walk::create(trace, {.batch = 4, .repeat = true, .steps_max = 1});
    REQUIRE(wide);
    CHECK(wide->rows(0).size() == 4);
    CHECK_FALSE(expert_walk::create(trace, {.batch = 2, .repeat = true}));
}

TEST_CASE("prompts are taken in pieces, and a step wants each expert once, in ascending order") {
    auto trace = one_layer({{5, 4, 5, 3, 2, 1}});
    trace.sequences[0].prompt_tokens = 5;
    const auto walk = expert_walk::create(trace, {.prompt_rows = 3});
    REQUIRE(walk);
    CHECK(wanted_by_step(*walk) == std::vector<std::vector<int>>{{4, 5}, {2, 3}, {1}});
}

TEST_CASE("every choice of the recording is in the walk, step by step") {
    for (const std::uint32_t batch : {1U, 2U, 5U}) {
        const auto trace = small_trace({.sequences = 7}, batch);
        const auto walk = expert_walk::create(trace, {.batch = batch});
        REQUIRE(walk);
        CHECK(walk->tokens() == trace.tokens());
        for (std::size_t step = 0; step < walk->steps(); ++step)
            for (std::uint32_t layer = 0; layer < trace.layers; ++layer) {
                std::set<std::uint16_t> expected;
                for (const auto at : walk->rows(step))
                    for (const auto id : trace.ids(trace.sequences[at.sequence], at.token, layer))
                        expected.insert(id);
                const auto experts = walk->experts(step, layer);
                CHECK(std::vector<std::uint16_t>(experts.begin(), experts.end()) ==
                      std::vector<std::uint16_t>(expected.begin(), expected.end()));
            }
    }
}

TEST_CASE("what cannot be played is refused") {
    const auto trace = one_layer({{1}});
    CHECK(expert_walk::create(trace, {.batch = 0}).error().code == errc::invalid_argument);
    CHECK(expert_walk::create(trace, {.prompt_rows = 0}).error().code == errc::invalid_argument);
    CHECK(expert_walk::create(trace, {.steps_max = 0}).error().code == errc::invalid_argument);
    CHECK(expert_walk::create(one_layer({}), {}).error().code == errc::invalid_argument);
    CHECK(expert_walk::create(one_layer({{}}), {}).error().code == errc::invalid_argument);
}
