// What a store remembers of its latest visits, and the regret that is reckoned from it.
#include "core/experts/expert_regret.hpp"
#include "core/experts/expert_store.hpp"
#include "core/experts/visit_window.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <doctest/doctest.h>
#include <random>

using namespace moira;

namespace {

constexpr std::int32_t layers = 2, experts = 8;

struct tested_window {
    std::unique_ptr<eviction_policy> policy = make_lru_policy(false);
    residency_table table;
    visit_window window{layers, experts};
    std::vector<residency_table::pin> pins;

    explicit tested_window(slot_index slots)
        : table({.layers = layers, .experts = experts, .slots_max = 4, .base_address = 1, .slot_bytes = 1}) {
        table.configure(slots, *policy);
        window.restart(slots, table);
    }

    void visit(std::int32_t layer, std::vector<std::int32_t> wanted, bool continues = false) {
        window.visit(layer, wanted, continues, table);
        pins.clear();
        table.pin_wave(layer, wanted, pins, {}, continues);
        for (const auto& pin : pins) {
            if (pin.state == slot_state::empty) {
                window.loading(layer);
                table.complete(pin.slot);
            }
            table.unpin(pin.slot);
        }
    }
};

} // namespace

TEST_CASE("waves of one visit are one visit; layers and their loads are told apart") {
    tested_window tested(4);
    tested.visit(0, {1, 2});
    tested.visit(0, {3}, true);
    tested.visit(1, {3});
    tested.visit(1, {3});
    const auto record = tested.window.copy();
    CHECK(record.slots == 4);
    CHECK(record.layer == std::vector<std::uint16_t>{0, 1, 1});
    CHECK(record.wanted == std::vector<std::uint16_t>{1, 2, 3, 3, 3});
    CHECK(record.wanted_begin == std::vector<std::uint32_t>{0, 3, 4, 5});
    CHECK(record.layer_loads == std::vector<std::uint64_t>{3, 1});
    CHECK(record.resident.empty());
}

TEST_CASE("however long a run is, the window keeps to its bound and begins with what was in memory then") {
    tested_window tested(3);
    std::uint64_t uses = 0, least = ~std::uint64_t{0};
    for (std::uint32_t step = 0; uses < 4 * regret_window_uses_max; ++step, uses += 2) {
        tested.visit(0, {static_cast<std::int32_t>(step % 3), 3});
        if (step % 5000 == 4999 && uses > regret_window_uses_max) {
            const auto record = tested.window.copy();
            CHECK(record.wanted.size() <= regret_window_uses_max);
            least = std::min<std::uint64_t>(least, record.wanted.size());
            CHECK(record.resident.size() == 3);
            const auto regret = regret_of(record);
            CHECK(regret.uses == record.wanted.size());
            CHECK(regret.optimal_loads <= regret.loads);
            CHECK(regret.optimal_loads > 0);
        }
    }
    CHECK(least >= regret_window_uses_max / 2 - experts);
}

TEST_CASE("another number of slots begins the window anew") {
    tested_window tested(4);
    tested.visit(0, {1, 2});
    tested.table.configure(2, *tested.policy);
    tested.window.restart(2, tested.table);
    CHECK(tested.window.copy().layer.empty());
    tested.visit(1, {5});
    const auto record = tested.window.copy();
    CHECK(record.slots == 2);
    CHECK(record.layer == std::vector<std::uint16_t>{1});
    CHECK(record.resident.size() == 2);
    CHECK(regret_of(record).loads == 1);
}

TEST_CASE("regret is what LRU loads of a cycle that does not fit, beyond keeping part of it") {
    // Four experts in turn and three slots: LRU loads each time. Bypassing one of them loads that one only: of twelve
    // visits three find nothing the first time, and one in four is the bypassed one.
    tested_window tested(3);
    for (std::int32_t round = 0; round < 3; ++round)
        for (std::int32_t expert = 0; expert < 4; ++expert)
            tested.visit(1, {expert});
    const auto regret = regret_of(tested.window.copy());
    CHECK(regret.loads == 12);
    CHECK(regret.optimal_loads == 6);
    CHECK(*regret.share() == doctest::Approx(0.5));
    REQUIRE(regret.layers.size() == 1);
    CHECK(regret.layers[0].layer == 1);
    CHECK(regret.layers[0].loads_above() == 6);
    CHECK_FALSE(regret_of(tested_window(3).window.copy()).share()); // nothing was loaded
}

TEST_CASE("a store tells its regret by layer") {
    fake_slab_source source;
    auto store = expert_store::create(small_store(source, 6), source, nullptr);
    REQUIRE(store);
    std::mt19937 draw(5);
    const auto play = [&](int steps) {
        for (int step = 0; step < steps; ++step)
            for (std::int32_t layer = 1; layer < 4; ++layer) {
                const auto first = static_cast<std::int32_t>(draw() % 8);
                auto lease = (*store)->acquire(layer, std::vector<std::int32_t>{first, first + 8});
                REQUIRE(lease);
                REQUIRE(wait_all(*lease));
            }
    };
    play(100);
    const auto regret = (*store)->regret();
    auto now = (*store)->statistics();
    CHECK_FALSE(now.regret);
    CHECK(regret.uses == 600);
    CHECK(regret.loads == now.demand_loads);
    CHECK(regret.optimal_loads < regret.loads);
    CHECK(regret.optimal_loads >= 6);
    now.add_regret(regret);
    REQUIRE(now.layers.size() == 3);
    std::int64_t sum = 0;
    for (const auto& layer : now.layers) {
        REQUIRE(layer.regret_loads);
        sum += *layer.regret_loads;
    }
    CHECK(sum == static_cast<std::int64_t>(regret.loads_above()));
}
