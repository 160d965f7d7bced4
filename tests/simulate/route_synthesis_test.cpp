#include "core/simulate/optimal_replay.hpp"
#include "core/simulate/route_synthesis.hpp"
#include "core/simulate/store_replay.hpp"
#include "tests/simulate/small_traces.hpp"

#include <doctest/doctest.h>
#include <set>

using namespace moira;

namespace {

void check_shape(const route_trace& made, const route_synthesis& wanted) {
    CHECK(made.layers == wanted.layers);
    CHECK(made.sequences.size() == wanted.sequences);
    CHECK(made.tokens() == wanted.tokens);
    for (const auto& sequence : made.sequences)
        for (std::uint32_t token = 0; token < sequence.tokens; ++token)
            for (std::uint32_t layer = 0; layer < made.layers; ++layer) {
                const auto ids = made.ids(sequence, token, layer);
                REQUIRE(std::set(ids.begin(), ids.end()).size() == wanted.top_k);
                REQUIRE(*std::max_element(ids.begin(), ids.end()) < wanted.experts);
            }
}

double lru_hit_rate(const route_trace& trace) {
    const auto walk = expert_walk::create(trace, {});
    REQUIRE(walk);
    const auto policy = make_lru_policy(false);
    const auto counts =
        replay_store(*walk, {.slots = static_cast<slot_index>(trace.layers * trace.experts / 2)}, *policy);
    REQUIRE(counts);
    return counts->hit_rate();
}

} // namespace

TEST_CASE("uniform routing uses every expert equally often, and the seed decides") {
    const route_synthesis wanted{.layers = 3, .experts = 16, .top_k = 4, .sequences = 3, .tokens = 4000, .seed = 9};
    const auto made = make_uniform_routes(wanted), again = make_uniform_routes(wanted);
    REQUIRE(made);
    REQUIRE(again);
    check_shape(*made, wanted);
    CHECK(made->sequences[1].ids == again->sequences[1].ids);
    auto other = wanted;
    other.seed = 10;
    CHECK(make_uniform_routes(other)->sequences[1].ids != made->sequences[1].ids);
    std::vector<int> counts(16);
    for (const auto& sequence : made->sequences)
        for (const auto id : sequence.ids)
            ++counts[id];
    for (const int count : counts) // 3,000 each, standard deviation 47
        CHECK(count == doctest::Approx(3000).epsilon(0.1));
    // Below the half that fits: what a layer used last is the oldest when its turn comes.
    CHECK(lru_hit_rate(*made) == doctest::Approx(0.45).epsilon(0.03));
}

TEST_CASE("routing like a real one keeps its skew and its habits at other dimensions") {
    const auto source = small_trace({.layers = 4, .experts = 8, .top_k = 2, .sequences = 20, .tokens = 100}, 5);
    for (const auto& [layers, experts, top_k] : {std::array{3U, 32U, 4U}, {8U, 8U, 2U}, {2U, 6U, 5U}, {1U, 30U, 30U}}) {
        const route_synthesis wanted{
            .layers = layers, .experts = experts, .top_k = top_k, .sequences = 4, .tokens = 600, .seed = 2};
        const auto made = make_routes_like(source, wanted);
        REQUIRE(made);
        check_shape(*made, wanted);
        CHECK(make_routes_like(source, wanted)->sequences[3].ids == made->sequences[3].ids);
        for (const auto& sequence : made->sequences)
            CHECK(sequence.weights[0] > 0);
        if (top_k * 4 <= experts)
            CHECK(lru_hit_rate(*made) > lru_hit_rate(*make_uniform_routes(wanted)) + 0.1);
    }
}

TEST_CASE("sizes that make no recording are refused") {
    const auto source = small_trace({}, 1);
    const route_synthesis good{.layers = 2, .experts = 4, .top_k = 2, .sequences = 1, .tokens = 5};
    REQUIRE(make_uniform_routes(good));
    const auto refused = [&](auto&& change) {
        auto wanted = good;
        change(wanted);
        CHECK(make_uniform_routes(wanted).error().code == errc::invalid_argument);
        CHECK(make_routes_like(source, wanted).error().code == errc::invalid_argument);
    };
    refused([](route_synthesis& wanted) { wanted.layers = 0; });
    refused([](route_synthesis& wanted) { wanted.top_k = 5; });
    refused([](route_synthesis& wanted) { wanted.experts = 1U << 20; });
    refused([](route_synthesis& wanted) { wanted.sequences = 6; });
    refused([](route_synthesis& wanted) { wanted.tokens = 0xffffffffU; });
    auto wanted = good;
    wanted.tokens = 100000;
    CHECK(make_routes_like(source, wanted).error().code == errc::invalid_argument);
}
