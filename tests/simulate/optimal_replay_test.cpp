#include "core/simulate/optimal_replay.hpp"
#include "core/simulate/store_replay.hpp"
#include "tests/simulate/small_traces.hpp"

#include <bit>
#include <doctest/doctest.h>
#include <map>

using namespace moira;

namespace {

/// The least loads over every possible sequence of cache contents; sets of experts are bit masks.
std::uint64_t least_loads(const expert_walk& walk, std::uint64_t slots, bool bypass) {
    const auto experts = walk.trace().experts, layers = walk.trace().layers;
    std::map<std::uint32_t, std::uint64_t> states{{0, 0}}; // content -> least loads so far
    for (std::size_t visit = 0; visit < walk.visits(); ++visit) {
        std::uint32_t wanted = 0;
        for (auto place = walk.wanted_begin(visit); place < walk.wanted_begin(visit + 1); ++place)
            wanted |= 1U << (visit % layers * experts + walk.wanted()[place]);
        const bool must_stay = !bypass && static_cast<std::uint64_t>(std::popcount(wanted)) <= slots;
        std::map<std::uint32_t, std::uint64_t> after;
        for (const auto& [content, loads] : states) {
            const auto paid = loads + static_cast<std::uint64_t>(std::popcount(wanted & ~content));
            const auto all = content | wanted;
            for (std::uint32_t kept = all;; kept = (kept - 1) & all) {
                if (static_cast<std::uint64_t>(std::popcount(kept)) <= slots &&
                    (!must_stay || (kept & wanted) == wanted)) {
                    const auto [place, fresh] = after.try_emplace(kept, paid);
                    if (!fresh)
                        place->second = std::min(place->second, paid);
                }
                if (kept == 0)
                    break;
            }
        }
        states = std::move(after);
    }
    std::uint64_t least = ~std::uint64_t{0};
    for (const auto& [content, loads] : states)
        least = std::min(least, loads);
    return least;
}

} // namespace

TEST_CASE("Belady's loads are the least of all ways to keep experts, with and without bypass") {
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        const auto trace = small_trace({.layers = 2, .experts = 4, .top_k = 2, .sequences = 2, .tokens = 8}, seed);
        for (const std::uint32_t batch : {1U, 2U}) {
            const auto walk = expert_walk::create(trace, {.batch = batch});
            REQUIRE(walk);
            for (std::uint64_t slots = 2; slots <= 6; ++slots)
                for (const bool bypass : {false, true}) {
                    const auto found = replay_optimally(*walk, slots, bypass);
                    CHECK(found.loads == least_loads(*walk, slots, bypass));
                    CHECK(found.hits + found.loads == walk->wanted().size());
                }
        }
    }
}

TEST_CASE("no policy beats Belady, and more slots never make Belady worse") {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        const auto trace = small_trace({.layers = 4, .experts = 16, .sequences = 6, .tokens = 60}, seed);
        for (const std::uint32_t batch : {1U, 3U}) {
            const auto walk = expert_walk::create(trace, {.batch = batch});
            REQUIRE(walk);
            optimal_counts before;
            for (const slot_index slots : {2, 6, 8, 16, 32, 64}) {
                const auto most = static_cast<std::uint64_t>(slots);
                const auto kept = replay_optimally(*walk, most, false), bypassed = replay_optimally(*walk, most, true);
                CHECK(bypassed.hits >= kept.hits);
                CHECK(bypassed.hits >= before.hits);
                before = bypassed;
                for (const auto name : eviction_policy_names()) {
                    auto policy = make_eviction_policy(name, {.layers = 4, .experts = 16, .moe_layers = 4});
                    REQUIRE(policy);
                    const auto counts = replay_store(*walk, {.slots = slots}, **policy);
                    REQUIRE(counts);
                    CHECK(counts->hits <= bypassed.hits);
                    CHECK(counts->hits + counts->demand_loads == walk->wanted().size());
                    auto layers = counts->layers;
                    add_regret(layers, bypassed);
                    std::int64_t regret = 0;
                    for (const auto& layer : layers)
                        regret += layer.regret_loads.value_or(0);
                    CHECK(regret == static_cast<std::int64_t>(counts->demand_loads - bypassed.loads));
                }
            }
            // Everything fits: each expert is loaded once.
            CHECK(before.loads == replay_optimally(*walk, 1000, false).loads);
        }
    }
}

TEST_CASE("what is played to warm up is not counted") {
    const auto trace = small_trace({}, 3);
    const auto walk = expert_walk::create(trace, {});
    REQUIRE(walk);
    const auto all = replay_optimally(*walk, 8, true), none = replay_optimally(*walk, 8, true, walk->steps());
    CHECK(none.hits + none.loads == 0);
    const auto later = replay_optimally(*walk, 8, true, 1);
    CHECK(later.hits + later.loads == all.hits + all.loads - 3 * 2);
    CHECK(later.loads == all.loads - 3 * 2);
}
