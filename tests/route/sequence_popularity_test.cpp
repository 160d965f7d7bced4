#include "core/route/sequence_popularity.hpp"

#include "core/route/context_scorer.hpp"

#include <array>
#include <doctest/doctest.h>

using namespace moira;

namespace {

constexpr std::array<std::uint16_t, 2> low{0, 1}, high{6, 7};

std::uint16_t best_of(const context_scorer& scorer, route_source source, const route_context& context) {
    std::vector<float> scores(8);
    REQUIRE(scorer.score(source, 0, context, scores));
    std::array<std::uint16_t, 1> best{};
    best_experts(scores, best);
    return best[0];
}

} // namespace

TEST_CASE("a sequence's own choices outweigh what all others choose, and are forgotten when it ends") {
    context_scorer scorer({1, 8, 2}, nullptr);
    for (std::int32_t token = 0; token < 60; ++token) {
        scorer.observe(0, low);
        scorer.sequences().observe(1, token, true, 0, low);
    }
    for (std::int32_t token = 0; token < 20; ++token) {
        scorer.observe(0, high);
        scorer.sequences().observe(2, token, true, 0, high);
    }
    CHECK(best_of(scorer, route_source::prompt, {{}, {}, {}, 1}) == 0);
    CHECK(best_of(scorer, route_source::prompt, {{}, {}, {}, 2}) == 6);
    CHECK(best_of(scorer, route_source::prompt, {{}, {}, {}, 3}) == 0); // nothing of its own
    CHECK(best_of(scorer, route_source::prompt, {}) == 0);
    scorer.sequences().forget(2);
    CHECK(best_of(scorer, route_source::prompt, {{}, {}, {}, 2}) == 0);
    CHECK(scorer.sequences().sequences() == 1);
}

TEST_CASE("tokens that a preemption computes again count once") {
    sequence_popularity known(2, 8);
    for (int round = 0; round < 3; ++round)
        for (std::int32_t token = 0; token < 4; ++token)
            known.observe(5, token, true, 1, low);
    const auto* of = known.find(5);
    REQUIRE(of);
    const auto counted = [&] { return of->of(1)[0]; };
    CHECK(counted() > 4.0F);
    CHECK(counted() < 4.2F); // growing worth of four choices
    CHECK(of->of(0)[0] == 0.0F);
    known.observe(5, 4, true, 1, low); // goes on behind
    CHECK(counted() > 5.0F);
    known.observe(5, 2, false, 1, low); // a draft's place
    CHECK(counted() > 6.0F);
}

TEST_CASE("no more sequences are remembered than the limit, the latest ones") {
    sequence_popularity known(1, 8);
    const auto all = static_cast<std::uint64_t>(sequence_popularities_max) + 10;
    for (std::uint64_t sequence = 0; sequence < all; ++sequence) {
        known.observe(sequence, 0, true, 0, low);
        known.observe(0, static_cast<std::int32_t>(sequence) + 1, true, 0, low); // stays in use
    }
    CHECK(known.sequences() == sequence_popularities_max);
    CHECK(known.find(0));
    CHECK_FALSE(known.find(1));
    CHECK(known.find(all - 1));
    known.observe(no_sequence, 0, true, 0, low);
    CHECK_FALSE(known.find(no_sequence));
    CHECK(known.sequences() == sequence_popularities_max);
}

TEST_CASE("a rejected draft speaks first, then the token before, then what is chosen often") {
    context_scorer scorer({1, 8, 2}, nullptr);
    const std::array<std::uint16_t, 2> previous{3, 0}, drafted{5, 3};
    scorer.observe(0, high);
    std::vector<float> scores(8);
    CHECK_FALSE(scorer.score(route_source::drafted, 0, {{}, previous, {}}, scores));
    REQUIRE(scorer.score(route_source::drafted, 0, {{}, previous, drafted}, scores));
    std::array<std::uint16_t, 4> best{};
    best_experts(scores, best);
    CHECK(best == std::array<std::uint16_t, 4>{5, 3, 0, 6});
    REQUIRE(scorer.score(route_source::drafted, 0, {{}, {}, drafted}, scores));
    best_experts(scores, best);
    CHECK(best == std::array<std::uint16_t, 4>{5, 3, 6, 7});
}
