#include "core/simulate/store_replay.hpp"
#include "tests/simulate/small_traces.hpp"

#include <doctest/doctest.h>
#include <list>

using namespace moira;

namespace {

std::unique_ptr<eviction_policy> policy_for(const route_trace& trace, std::string_view name) {
    auto made = make_eviction_policy(name, {.layers = trace.layer_numbers.back() + 1,
                                            .experts = static_cast<std::int32_t>(trace.experts),
                                            .moe_layers = static_cast<std::int32_t>(trace.layers)});
    REQUIRE(made);
    return std::move(*made);
}

replay_counts replayed(const expert_walk& walk, const replay_options& options, std::string_view name = "lru",
                       trace_predictor* predictor = nullptr) {
    const auto policy = policy_for(walk.trace(), name);
    auto counts = replay_store(walk, options, *policy, predictor);
    REQUIRE(counts);
    return std::move(*counts);
}

/// Hits of a plain list of recently used experts, when each visit fits.
std::uint64_t hits_of_plain_lru(const expert_walk& walk, std::size_t slots) {
    std::list<std::pair<std::size_t, int>> recent; // latest first
    std::uint64_t hits = 0;
    for (std::size_t visit = 0; visit < walk.visits(); ++visit) {
        const auto layer = visit % walk.trace().layers;
        std::vector<std::pair<std::size_t, int>> missing;
        for (const int expert : walk.experts(visit / walk.trace().layers, static_cast<std::uint32_t>(layer))) {
            const auto found = std::find(recent.begin(), recent.end(), std::pair(layer, expert));
            if (found == recent.end()) {
                missing.emplace_back(layer, expert);
                continue;
            }
            ++hits;
            recent.splice(recent.begin(), recent, found);
        }
        for (const auto& expert : missing)
            recent.push_front(expert);
        while (recent.size() > slots)
            recent.pop_back();
    }
    return hits;
}

/// One layer, top 1: A, B, A, B. Dense part 1 s, one read 2 s, one expert 0.5 s.
const route_trace two_experts{.layers = 1,
                              .experts = 4,
                              .top_k = 1,
                              .layer_numbers = {0},
                              .sequences = {{.tokens = 4, .ids = {0, 1, 0, 1}, .weights = {1, 1, 1, 1}}}};

replay_geometry slow_machine() {
    return {.expert_bytes = {500'000'000}, .dense_bytes = {1'000'000'000}, .memory_gb_s = 1, .disk_gb_s = 0.25};
}

} // namespace

TEST_CASE("LRU hits what a plain list of recent experts hits, and more slots never hit less") {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        const auto trace = small_trace({.layers = 4, .experts = 12, .sequences = 5, .tokens = 80}, seed);
        for (const std::uint32_t batch : {1U, 3U}) {
            const auto walk = expert_walk::create(trace, {.batch = batch});
            REQUIRE(walk);
            std::uint64_t before = 0;
            for (const slot_index slots : {8, 12, 20, 36, 48}) { // the floor is 8, and a visit wants at most 6
                const auto counts = replayed(*walk, {.slots = slots});
                CHECK(counts.hits == hits_of_plain_lru(*walk, static_cast<std::size_t>(slots)));
                CHECK(counts.hits >= before);
                CHECK_FALSE(counts.bypass);
                before = counts.hits;
            }
        }
    }
}

TEST_CASE("counters add up for every policy, with and without hints") {
    const auto trace = small_trace({.layers = 4, .experts = 12, .sequences = 5, .tokens = 80}, 7);
    const auto walk = expert_walk::create(trace, {.batch = 2});
    REQUIRE(walk);
    replay_geometry geometry;
    geometry.expert_bytes.assign(4, 10'000'000);
    geometry.dense_bytes.assign(4, 30'000'000);
    auto predictor = make_trace_predictor("scripted:recall=0.8,precision=0.6", trace);
    REQUIRE(predictor);
    for (const auto name : eviction_policy_names())
        for (const auto mode : {prefetch_mode::off, prefetch_mode::automatic, prefetch_mode::always})
            for (const std::uint32_t ahead : {1U, 2U}) {
                const auto counts = replayed(
                    *walk, {.slots = 24, .prefetch = {.mode = mode}, .layers_ahead = ahead, .geometry = geometry}, name,
                    predictor->get());
                CHECK(counts.hits + counts.demand_loads == walk->wanted().size());
                CHECK(counts.prefetch_loads == counts.prefetch_useful + counts.prefetch_wasted + counts.prefetch_open);
                const auto over = counts.hints.refused + counts.hints.cancelled + counts.prefetch_loads;
                CHECK(counts.hints.given >= over);
                CHECK(counts.hints.given <= over + 4 * ahead);
                if (mode != prefetch_mode::automatic)
                    CHECK((mode == prefetch_mode::off) == (counts.prefetch_loads == 0));
                CHECK(counts.tokens == trace.tokens());
                // The residents of a visit together, each absent expert alone.
                CHECK(counts.waves >= counts.demand_loads);
                CHECK(counts.waves <= counts.demand_loads + walk->visits());
                CHECK(counts.seconds == doctest::Approx(counts.compute_s + counts.stall_s));
                CHECK(counts.link_s * 1e9 == doctest::Approx(static_cast<double>(counts.bytes)));
                std::uint64_t of_layers = 0;
                for (const auto& layer : counts.layers)
                    of_layers += layer.hits;
                CHECK(of_layers == counts.hits);
            }
}

TEST_CASE("time: a load stalls for its read, and a hinted one for what is left of it") {
    const auto walk = expert_walk::create(two_experts, {});
    REQUIRE(walk);
    const auto alone = replayed(*walk, {.slots = 1, .geometry = slow_machine()});
    CHECK(alone.demand_loads == 4);
    CHECK(alone.stall_s == doctest::Approx(4 * 2.0));
    CHECK(alone.compute_s == doctest::Approx(4 * 1.5));
    CHECK(alone.bytes == 2'000'000'000);
    auto oracle = make_trace_predictor("oracle", two_experts);
    REQUIRE(oracle);
    const auto hinted =
        replayed(*walk, {.slots = 2, .prefetch = {.mode = prefetch_mode::always}, .geometry = slow_machine()}, "lru",
                 oracle->get());
    // A is waited for; B begins when A has arrived and has 1.5 of its 2 seconds when it is wanted.
    CHECK(hinted.demand_loads == 2);
    CHECK(hinted.hits == 2);
    CHECK(hinted.prefetch_loads == 1);
    CHECK(hinted.prefetch_useful == 1);
    CHECK(hinted.prefetch_joined == 1);
    CHECK(hinted.bytes == 1'000'000'000);
    CHECK(hinted.stall_s == doctest::Approx(2.0 + 0.5));
    CHECK(hinted.link_s == doctest::Approx(4.0));
    CHECK(hinted.tokens_per_s() == doctest::Approx(4 / (6.0 + 2.5)));
}

TEST_CASE("the oracle with an idle link and time enough leaves only the first loads, a throttled one never helps") {
    const auto trace = small_trace({.layers = 6, .experts = 12, .sequences = 2, .tokens = 100}, 11);
    const auto walk = expert_walk::create(trace, {});
    REQUIRE(walk);
    auto oracle = make_trace_predictor("oracle", trace);
    REQUIRE(oracle);
    replay_geometry geometry;
    geometry.expert_bytes.assign(6, 1'000'000);
    geometry.dense_bytes.assign(6, 900'000'000); // 30 ms a layer, a read takes 1 ms
    replay_options options{.slots = 24, .geometry = geometry};
    const auto without = replayed(*walk, options);
    options.prefetch.mode = prefetch_mode::always;
    const auto with = replayed(*walk, options, "lru", oracle->get());
    CHECK(with.stall_s < 0.25 * without.stall_s);
    CHECK(with.demand_loads < without.demand_loads / 4);
    // A link that is always busy: automatic prefetching stays close to doing nothing.
    options.geometry->dense_bytes.assign(6, 0);
    options.prefetch.mode = prefetch_mode::off;
    const auto busy_without = replayed(*walk, options);
    options.prefetch.mode = prefetch_mode::automatic;
    CHECK(replayed(*walk, options, "lru", oracle->get()).seconds <= 1.02 * busy_without.seconds);
}

TEST_CASE("warm-up is played and not counted") {
    const auto trace = small_trace({.sequences = 2, .tokens = 60}, 2);
    const auto walk = expert_walk::create(trace, {});
    REQUIRE(walk);
    const auto all = replayed(*walk, {.slots = 12});
    const auto later = replayed(*walk, {.slots = 12, .warm_up_steps = 10});
    CHECK(later.steps == all.steps - 10);
    CHECK(later.hits + later.demand_loads == all.hits + all.demand_loads - 10 * 3 * 2);
    CHECK(later.demand_loads < all.demand_loads);
}

TEST_CASE("steps behind the last one that is played are only hinted at") {
    const auto trace = small_trace({.sequences = 2, .tokens = 60}, 2);
    const auto oracle = make_trace_predictor("oracle", trace);
    REQUIRE(oracle);
    const auto longer = expert_walk::create(trace, {.steps_max = 11}),
               shorter = expert_walk::create(trace, {.steps_max = 10});
    REQUIRE(longer);
    REQUIRE(shorter);
    replay_options options{.slots = 12, .prefetch = {.mode = prefetch_mode::always}};
    const auto until_end = replayed(*shorter, options, "lru", oracle->get());
    options.steps_max = 10;
    const auto stopped = replayed(*longer, options, "lru", oracle->get());
    CHECK(stopped.steps == 10);
    CHECK(stopped.hits == until_end.hits);
    CHECK(stopped.demand_loads == until_end.demand_loads);
    CHECK(stopped.hints.given == until_end.hints.given + 2); // top 2 of the first layer of the eleventh step
}

TEST_CASE("a replay can be stopped, and numbers that do not fit the recording are refused") {
    const auto trace = small_trace({}, 1);
    const auto walk = expert_walk::create(trace, {});
    REQUIRE(walk);
    const auto policy = make_lru_policy(false);
    CHECK(replay_store(*walk, {.slots = 8}, *policy, nullptr, [](double) { return true; }).error().code ==
          errc::cancelled);
    const auto refused = [&](const replay_options& options) {
        CHECK(replay_store(*walk, options, *policy).error().code == errc::invalid_argument);
    };
    refused({.slots = 0});
    refused({.slots = 1}); // top 2
    refused({.slots = 25});
    refused({.slots = 8, .model_layers = 2});
    refused({.slots = 8, .travelling_max = 0});
    refused({.slots = 8, .layers_ahead = 4});
    refused({.slots = 8, .geometry = replay_geometry{.expert_bytes = {1}, .dense_bytes = {1}}});
}
