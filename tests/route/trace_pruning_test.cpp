#include "core/route/trace_pruning.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("a pruned recording names the heaviest expert in place of the ones that are left out") {
    route_trace trace;
    trace.layers = 2;
    trace.experts = 8;
    trace.top_k = 3;
    trace.layer_numbers = {0, 1};
    route_sequence one;
    one.tokens = 1;
    one.ids = {4, 2, 7, 1, 5, 3};
    one.weights = {0.5F, 0.375F, 0.125F, 0.25F, 0.5F, 0.25F};
    trace.sequences = {one, one};
    const auto counted = prune_trace(trace, 0.75);
    CHECK(counted.routings == 12);
    CHECK(counted.left_out == 4);
    CHECK(counted.skipped_share() == doctest::Approx(1.0 / 3));
    for (const auto& sequence : trace.sequences) {
        CHECK(sequence.ids ==
              std::vector<std::uint16_t>{4, 2, 4, 1, 5, 5}); // 1 before 3: of equal ones the better rank
        CHECK(sequence.weights == std::vector<float>{0.5F, 0.375F, 0, 0.25F, 0.5F, 0});
    }
}

TEST_CASE("a recording that is not whole does not lead outside of it") {
    route_trace trace;
    CHECK(prune_trace(trace, 0.5).routings == 0);
    trace.layers = 1;
    trace.experts = 4;
    trace.top_k = 2;
    trace.sequences.resize(1);
    trace.sequences[0].tokens = 9;
    trace.sequences[0].ids = {0, 1, 2};
    trace.sequences[0].weights = {0.9F, 0.1F};
    CHECK(prune_trace(trace, 0.5).routings == 2);
    CHECK(trace.sequences[0].ids == std::vector<std::uint16_t>{0, 0, 2});
}

TEST_CASE("equal weights are no gate weights, nor are those that are not there") {
    route_trace trace;
    CHECK_FALSE(has_gate_weights(trace));
    trace.top_k = 2;
    trace.sequences.resize(2);
    CHECK_FALSE(has_gate_weights(trace));
    trace.sequences[0].weights = {0.5F, 0.5F, 0.25F, 0.25F};
    trace.sequences[1].weights = {0.0F, 0.0F, 0.5F};
    CHECK_FALSE(has_gate_weights(trace));
    trace.sequences[1].weights = {0.0F, 0.0F, 0.5F, 0.25F};
    CHECK(has_gate_weights(trace));
}
