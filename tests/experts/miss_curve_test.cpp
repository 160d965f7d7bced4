#include "core/experts/miss_curve.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <random>

using namespace moira;

namespace {

/// Loads of a least-recently-used cache of `slots` experts per layer, first visits aside.
std::uint64_t simulated(const std::vector<expert_id>& visits, std::int32_t layers, std::int32_t experts,
                        std::size_t slots) {
    std::vector<std::deque<std::int32_t>> kept(static_cast<std::size_t>(layers));
    std::vector<bool> seen(static_cast<std::size_t>(layers * experts));
    std::uint64_t loads = 0;
    for (const auto& visit : visits) {
        auto& cache = kept[static_cast<std::size_t>(visit.layer)];
        const auto index = static_cast<std::size_t>(visit.layer * experts + visit.expert);
        const auto place = std::find(cache.begin(), cache.end(), visit.expert);
        loads += place == cache.end() && seen[index];
        seen[index] = true;
        if (place != cache.end())
            cache.erase(place);
        cache.push_front(visit.expert);
        if (cache.size() > slots)
            cache.pop_back();
    }
    return loads;
}

} // namespace

TEST_CASE("one pass counts the loads of every size, as simulated caches do") {
    constexpr std::int32_t layers = 3, experts = 20;
    std::mt19937 draw(7);
    std::vector<expert_id> visits;
    miss_curve curve(layers, experts);
    for (int i = 0; i < 3000; ++i) {
        // Low numbers are likelier, as real experts are.
        const auto expert = static_cast<std::int32_t>(std::min(draw() % experts, draw() % experts));
        visits.push_back({static_cast<std::int32_t>(draw() % layers), expert});
        curve.visit(visits.back());
    }
    CHECK(curve.visits() == 3000);
    CHECK(curve.first_visits() == layers * experts);
    for (std::size_t slots = 1; slots <= experts; ++slots)
        CHECK(curve.repeated_loads(slots * layers) == simulated(visits, layers, experts, slots));
    CHECK(curve.repeated_loads(0) == 3000 - layers * experts);
}

TEST_CASE("the size that halves the loads is the smallest that does") {
    miss_curve curve(1, 16);
    for (int round = 0; round < 50; ++round)
        for (std::int32_t expert = 0; expert < 16; ++expert)
            curve.visit({0, round % 2 == 0 ? expert : expert % 4});
    const auto wanted = curve.slots_to_halve(2);
    CHECK(wanted > 2);
    CHECK(2 * curve.repeated_loads(wanted) <= curve.repeated_loads(2));
    CHECK(2 * curve.repeated_loads(wanted - 1) > curve.repeated_loads(2));
}

TEST_CASE("too few visits say nothing") {
    miss_curve curve(2, 8);
    CHECK(curve.slots_to_halve(4) == 0);
    for (std::int32_t expert = 0; expert < 8; ++expert)
        curve.visit({1, expert});
    CHECK(curve.repeated_loads(0) == 0);
    CHECK(curve.slots_to_halve(1) == 0);
    // Everything fits: there is nothing to halve.
    for (int round = 0; round < 100; ++round)
        curve.visit({1, 0});
    CHECK(curve.slots_to_halve(8) == 0);
}

TEST_CASE("a sample of the layers tells the same ratios where layers are alike") {
    constexpr std::int32_t layers = 12, experts = 16;
    std::mt19937 draw(11);
    miss_curve all(layers, experts), some(layers, experts, 4);
    for (int step = 0; step < 2000; ++step)
        for (std::int32_t layer = 0; layer < layers; ++layer) {
            const expert_id expert{layer, static_cast<std::int32_t>(std::min(draw() % experts, draw() % experts))};
            all.visit(expert);
            some.visit(expert);
        }
    CHECK(some.visits() == all.visits() / 4);
    const auto share = [](const miss_curve& curve, std::uint64_t slots) {
        return curve.repeated_loads(slots) / static_cast<double>(curve.visits());
    };
    for (const std::uint64_t slots : {24, 60, 100})
        CHECK(share(some, slots) == doctest::Approx(share(all, slots)).epsilon(0.1));
}
