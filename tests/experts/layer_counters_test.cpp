#include "core/experts/expert_store.hpp"
#include "core/experts/layer_counters.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <doctest/doctest.h>
#include <random>

using namespace moira;

namespace {

/// Of four layers with eight experts and as many slots, half of them on probation at most.
residency_table some_table(eviction_policy& policy) {
    residency_table table({.layers = 4, .experts = 8, .slots_max = 16, .base_address = 1, .slot_bytes = 1});
    table.configure(16, policy);
    return table;
}

} // namespace

TEST_CASE("layers nobody asked for are not shown; rates of nothing are none") {
    const auto policy = make_lru_policy(false);
    const auto table = some_table(*policy);
    layer_counters counters(4);
    CHECK(counters.shown(table, 1).empty());
    counters.visited({2, 5}, false, false);
    counters.visited({2, 5}, true, false);
    counters.visited({2, 6}, true, true);
    counters.waited(2, 0.5);
    const auto shown = counters.shown(table, 1);
    REQUIRE(shown.size() == 1);
    CHECK(shown[0].layer == 2);
    CHECK(*shown[0].hit_rate() == doctest::Approx(2.0 / 3));
    CHECK_FALSE(shown[0].recall());
    CHECK(shown[0].prefetch_useful == 1);
    CHECK(shown[0].stall_s == 0.5);
    CHECK_FALSE(layer_statistics{}.hit_rate());
}

TEST_CASE("hints are credited to the layer that was looked up, by what the counts grew") {
    const auto policy = make_lru_policy(false);
    const auto table = some_table(*policy);
    layer_counters counters(4);
    hint_counts now;
    now.misses = 2;
    now.absent_chosen = 1;
    counters.visited({1, 0}, false, false);
    counters.hinted(1, now);
    now.misses = 5;
    now.absent_chosen = 1;
    counters.visited({3, 0}, false, false);
    counters.hinted(3, now);
    const auto shown = counters.shown(table, 1);
    REQUIRE(shown.size() == 2);
    CHECK(*shown[0].recall() == doctest::Approx(0.5));
    CHECK(*shown[1].recall() == doctest::Approx(0.0));
    CHECK(shown[1].hinted_misses == 3);
}

TEST_CASE("wasted bytes are those of what was read ahead and left without having been asked for") {
    const auto policy = make_lru_policy(false);
    auto table = some_table(*policy);
    layer_counters counters(4);
    std::vector<residency_table::pin> pins;
    const auto visit = [&](std::int32_t layer, std::int32_t expert) {
        table.pin_wave(layer, std::vector{expert}, pins);
        if (pins.back().state == slot_state::empty)
            table.complete(pins.back().slot);
        table.unpin(pins.back().slot);
        counters.visited({layer, expert}, pins.back().state == slot_state::resident, pins.back().speculative);
    };
    for (const std::int32_t expert : {0, 1}) {
        const auto slot = table.take_speculative({2, expert}, false);
        REQUIRE(slot);
        table.complete(*slot);
        counters.loading_ahead(2);
    }
    visit(2, 0); // so expert 1 is the first to leave
    for (std::int32_t expert = 0; expert < 8; ++expert)
        visit(0, expert), visit(1, expert);
    const auto shown = counters.shown(table, 100);
    REQUIRE(shown.size() == 3);
    CHECK(shown[2].prefetch_loads == 2);
    CHECK(shown[2].prefetch_useful == 1);
    CHECK(shown[2].prefetch_wasted == 1);
    CHECK(shown[2].prefetch_wasted_bytes == 100);
    CHECK(shown[0].prefetch_wasted == 0);
}

TEST_CASE("what happened since an earlier moment is the difference of counts, layer by layer") {
    expert_store_statistics before, now;
    before.hits = 3;
    before.drafted.demand_loads = 1;
    before.layers.push_back({.layer = 4, .hits = 3, .stall_s = 1});
    now = before;
    now.slots = 8;
    now.hits = 10;
    now.drafted.demand_loads = 2;
    now.layers.push_back({.layer = 5, .hits = 2});
    now.layers[0].hits = 8;
    now.layers[0].stall_s = 1.5;
    const auto grown = now.since(before);
    CHECK(grown.slots == 8);
    CHECK(grown.hits == 7);
    CHECK(grown.drafted.demand_loads == 1);
    REQUIRE(grown.layers.size() == 2);
    CHECK(grown.layers[0].hits == 5);
    CHECK(grown.layers[0].stall_s == doctest::Approx(0.5));
    CHECK(grown.layers[1].hits == 2);
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
