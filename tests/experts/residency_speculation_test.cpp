// Speculative slots of the residency table: who may be given up for whom.
#include "core/experts/residency_table.hpp"

#include <algorithm>
#include <array>
#include <doctest/doctest.h>
#include <map>
#include <random>

using namespace moira;

namespace {

constexpr std::int32_t layers = 4, experts = 8;
constexpr slot_index slots_max = 20;
constexpr std::uint64_t pass_waves = 4;

class tested_table {
public:
    explicit tested_table(slot_index slots)
        : table({.layers = layers,
                 .experts = experts,
                 .slots_max = slots_max,
                 .base_address = 1 << 20,
                 .slot_bytes = 192,
                 .layout_id = 3,
                 .pass_waves = pass_waves}),
          policy(make_lru_policy(false)) {
        table.configure(slots, *policy);
    }

    /// A wave that comes and goes; its experts' slots.
    std::vector<slot_index> visit(std::int32_t layer, const std::vector<std::int32_t>& wave) {
        REQUIRE(table.fits(layer, wave));
        std::vector<residency_table::pin> pins;
        table.pin_wave(layer, wave, pins);
        ++waves;
        std::vector<slot_index> slots;
        for (const auto& pin : pins) {
            if (table.state(pin.slot) == slot_state::loading)
                table.complete(pin.slot);
            table.unpin(pin.slot);
            used[{layer, pin.expert}] = waves;
            slots.push_back(pin.slot);
        }
        return slots;
    }

    bool holds(std::int32_t layer, std::int32_t expert) const { return table.holds({layer, expert}); }

    residency_table table;
    std::unique_ptr<eviction_policy> policy;
    std::map<expert_id, std::uint64_t> used;
    std::uint64_t waves = 0;
};

} // namespace

TEST_CASE("a speculative expert is shown when it has arrived, and its first use makes it one of many") {
    tested_table tested(8);
    const auto slot = tested.table.take_speculative({1, 3}, true);
    REQUIRE(slot);
    CHECK(tested.table.entries(1)[3].address == 0);
    CHECK(tested.holds(1, 3));
    tested.table.complete(*slot);
    CHECK(tested.table.entries(1)[3].address == tested.table.slot_address(*slot));
    CHECK(tested.table.speculative_slots() == 1);
    CHECK(tested.visit(1, {3}) == std::vector{*slot});
    CHECK(tested.table.speculative_slots() == 0);
    CHECK(tested.table.speculation().used == 1);
}

TEST_CASE("a wave can join a speculative expert that is on its way; its pin keeps the slot") {
    tested_table tested(2);
    const auto slot = tested.table.take_speculative({1, 3}, true);
    REQUIRE(slot);
    std::vector<residency_table::pin> pins;
    tested.table.pin_wave(1, std::array{3}, pins);
    CHECK(pins[0].state == slot_state::loading);
    CHECK(pins[0].speculative);
    CHECK(tested.table.pins(*slot) == 1);
    tested.table.complete(*slot);
    CHECK_FALSE(tested.table.fits(2, std::array{0, 1}));
    tested.table.unpin(*slot);
    CHECK(tested.table.fits(2, std::array{0, 1}));
}

TEST_CASE("a failed speculative load frees its slot and counts as unused") {
    tested_table tested(2);
    const auto slot = tested.table.take_speculative({1, 3}, true);
    REQUIRE(slot);
    tested.table.abandon(*slot);
    CHECK_FALSE(tested.holds(1, 3));
    CHECK(tested.table.speculation().unused == 1);
    CHECK(tested.visit(2, {0, 1}).size() == 2);
}

TEST_CASE("an eighth of the slots is on probation at most, and what was not wanted makes room") {
    tested_table tested(16); // two
    for (const std::int32_t expert : {0, 1}) {
        const auto slot = tested.table.take_speculative({1, expert}, true);
        REQUIRE(slot);
        tested.table.complete(*slot);
    }
    CHECK(tested.table.room_for_speculation({1, 2}, true) == residency_table::speculative_room::none);
    CHECK_FALSE(tested.table.take_speculative({1, 2}, true));
    tested.visit(1, {7}); // neither was right
    CHECK(tested.table.room_for_speculation({2, 2}, false) == residency_table::speculative_room::free);
    REQUIRE(tested.table.take_speculative({2, 2}, false));
    CHECK_FALSE(tested.holds(1, 0));
    CHECK(tested.holds(1, 1));
    CHECK(tested.table.speculation().unused == 1);
}

TEST_CASE("an expert that left for a hint and is wanted again within two passes is regretted") {
    tested_table tested(2);
    tested.visit(0, {0, 1});
    for (int wave = 0; wave < 4; ++wave)
        tested.visit(0, {1});
    CHECK(tested.table.room_for_speculation({3, 3}, true) == residency_table::speculative_room::evicts);
    CHECK(tested.table.room_for_speculation({3, 3}, false) == residency_table::speculative_room::none);
    const auto slot = tested.table.take_speculative({3, 3}, true);
    REQUIRE(slot);
    tested.table.complete(*slot);
    CHECK_FALSE(tested.holds(0, 0));
    CHECK(tested.table.speculation().evictions == 1);
    tested.visit(0, {0});
    CHECK(tested.table.speculation().regretted == 1);
    CHECK(tested.holds(3, 3)); // its layer has not been visited: the oldest left, as the policy says
}

TEST_CASE("random waves and hints: speculation evicts only what is cold and unpinned, and everything is counted") {
    std::mt19937 random(17);
    tested_table tested(12);
    auto& table = tested.table;
    std::vector<slot_index> loading;
    for (int turn = 0; turn < 20'000; ++turn) {
        switch (random() % 5) {
        case 0:
        case 1: {
            const auto layer = static_cast<std::int32_t>(random() % layers);
            const std::vector wave{static_cast<std::int32_t>(random() % 3),
                                   static_cast<std::int32_t>(3 + random() % 5)};
            if (!table.fits(layer, wave))
                break;
            std::erase_if(loading, [&](slot_index slot) {
                const auto expert = table.expert(slot);
                return expert.layer == layer && std::find(wave.begin(), wave.end(), expert.expert) != wave.end();
            });
            tested.visit(layer, wave);
            break;
        }
        case 2: {
            const expert_id wanted{static_cast<std::int32_t>(random() % layers),
                                   static_cast<std::int32_t>(random() % experts)};
            if (table.holds(wanted))
                break;
            std::map<expert_id, bool> held;
            for (std::int32_t layer = 0; layer < layers; ++layer)
                for (std::int32_t expert = 0; expert < experts; ++expert)
                    held[{layer, expert}] = table.holds({layer, expert});
            const auto unused = table.speculation().unused;
            const bool may_evict = random() % 4 != 0;
            const auto room = table.room_for_speculation(wanted, may_evict);
            const auto slot = table.take_speculative(wanted, may_evict);
            REQUIRE(slot.has_value() == (room != residency_table::speculative_room::none));
            if (!slot)
                break;
            loading.push_back(*slot);
            for (const auto& [expert, was] : held)
                if (was && !table.holds(expert) && table.speculation().unused == unused) {
                    REQUIRE(room == residency_table::speculative_room::evicts);
                    REQUIRE(tested.waves - tested.used[expert] >= pass_waves);
                }
            break;
        }
        case 3:
            if (loading.empty())
                break;
            if (random() % 6 == 0)
                table.abandon(loading.front());
            else
                table.complete(loading.front());
            loading.erase(loading.begin());
            break;
        default:
            if (random() % 50 == 0)
                table.configure(static_cast<slot_index>(4 + random() % 16), *tested.policy);
        }
        const auto& counts = table.speculation();
        REQUIRE(counts.taken == counts.used + counts.unused + table.speculative_slots());
        REQUIRE(table.resident() <= slots_max);
    }
    const auto& counts = table.speculation();
    CHECK(counts.used > 100);
    CHECK(counts.unused > 100);
    CHECK(counts.evictions > 100);
    CHECK(counts.regretted > 0);
    CHECK(counts.regretted <= counts.evictions);
}
