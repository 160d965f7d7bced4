#include "core/plan/hit_curve.hpp"
#include "core/plan/route_hits.hpp"
#include "tests/plan/planned_model.hpp"

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
    // Caches of these sizes that were simulated one by one.
    CHECK(skewed_hits().at(0.25) == doctest::Approx(0.65).epsilon(0.01));
    CHECK(skewed_hits().at(0.375) == doctest::Approx(0.80).epsilon(0.01));
    CHECK(skewed_hits().at(0.5) == doctest::Approx(0.89).epsilon(0.01));
}

TEST_CASE("a recording says at which size its experts return") {
    const auto same = hits_of_routes(recording(50, false), round_model());
    REQUIRE(same);
    CHECK(same->at(2.0 / 8) == doctest::Approx(1.0));
    CHECK(same->at(0.0) == doctest::Approx(0.0));
    const auto turns = hits_of_routes(recording(50, true), round_model());
    REQUIRE(turns);
    CHECK(turns->at(2.0 / 8) == doctest::Approx(0.0)); // least recently used: always the wrong ones
    CHECK(turns->at(4.0 / 8) == doctest::Approx(1.0));
}

TEST_CASE("a recording of another model, or of nothing, is refused") {
    auto other = recording(4, false);
    other.experts = 16;
    CHECK(hits_of_routes(other, round_model()).error().code == errc::invalid_argument);
    CHECK(hits_of_routes(recording(1, false), round_model()).error().code == errc::invalid_argument);
    CHECK(hits_of_routes(recording(0, false), round_model()).error().code == errc::invalid_argument);
}
