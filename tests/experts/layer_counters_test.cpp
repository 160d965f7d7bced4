#include "core/experts/expert_store.hpp"
#include "core/experts/layer_counters.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <doctest/doctest.h>
#include <random>

using namespace moira;

TEST_CASE("layers nobody asked for are not shown; rates of nothing are none") {
    layer_counters counters(4, 8);
    CHECK(counters.shown().empty());
    counters.visited({2, 5}, false, false);
    counters.visited({2, 5}, true, false);
    counters.visited({2, 6}, true, true);
    counters.waited(2, 0.5);
    const auto shown = counters.shown();
    REQUIRE(shown.size() == 1);
    CHECK(shown[0].layer == 2);
    CHECK(*shown[0].hit_rate() == doctest::Approx(2.0 / 3));
    CHECK_FALSE(shown[0].recall());
    CHECK(shown[0].prefetch_useful == 1);
    CHECK(shown[0].stall_s == 0.5);
    CHECK_FALSE(layer_statistics{}.hit_rate());
}

TEST_CASE("hints are credited to the layer that was looked up, by what the counts grew") {
    layer_counters counters(4, 8);
    hint_counts now;
    now.misses = 2;
    now.absent_chosen = 1;
    counters.visited({1, 0}, false, false);
    counters.hinted(1, now);
    now.misses = 5;
    now.absent_chosen = 1;
    counters.visited({3, 0}, false, false);
    counters.hinted(3, now);
    const auto shown = counters.shown();
    REQUIRE(shown.size() == 2);
    CHECK(*shown[0].recall() == doctest::Approx(0.5));
    CHECK(*shown[1].recall() == doctest::Approx(0.0));
    CHECK(shown[1].hinted_misses == 3);
}

TEST_CASE("unused bytes are those of what was read ahead and not asked for") {
    layer_statistics layer;
    layer.prefetch_loads = 7;
    layer.prefetch_useful = 3;
    CHECK(layer.unused_bytes(100) == 400);
}

TEST_CASE("a store's layers add up to its counters, and it knows the budget that would halve its loads") {
    fake_slab_source source;
    auto store = expert_store::create(small_store(source, 6), source, nullptr);
    REQUIRE(store);
    std::mt19937 draw(3);
    for (int step = 0; step < 200; ++step)
        for (std::int32_t layer = 1; layer < 4; ++layer) {
            const auto first = static_cast<std::int32_t>(draw() % 8);
            const std::vector<std::int32_t> wave{first, first + 8};
            auto lease = (*store)->acquire(layer, wave);
            REQUIRE(lease);
            REQUIRE(wait_all(*lease));
        }
    const auto now = (*store)->statistics();
    REQUIRE(now.layers.size() == 3);
    std::uint64_t hits = 0, loads = 0;
    double stall_s = 0;
    for (const auto& layer : now.layers) {
        hits += layer.hits;
        loads += layer.demand_loads;
        stall_s += layer.stall_s;
    }
    CHECK(hits == now.hits);
    CHECK(loads == now.demand_loads);
    CHECK(stall_s == doctest::Approx(now.stall_s));
    CHECK(now.slots_all == 48);
    CHECK(now.slot_bytes == 256);
    CHECK(now.slots_to_halve > now.slots);
    CHECK(now.slots_to_halve <= now.slots_all);
}
