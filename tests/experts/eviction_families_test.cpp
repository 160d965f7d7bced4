// Every eviction policy: its order on examples small enough to work out by hand, and what a table makes of it.
#include "core/experts/expert_affinity.hpp"
#include "core/experts/residency_table.hpp"

#include <algorithm>
#include <array>
#include <doctest/doctest.h>
#include <map>
#include <numeric>
#include <random>
#include <string>

using namespace moira;

namespace {

using wave = std::vector<std::int32_t>;

std::unique_ptr<eviction_policy> made(std::string_view name, std::int32_t layers, std::int32_t experts) {
    auto policy = make_eviction_policy(name, {layers, experts, layers});
    REQUIRE(policy);
    return std::move(*policy);
}

/// A table that loads at once, and counts.
class loaded_table {
public:
    loaded_table(std::string_view policy, std::int32_t layers, std::int32_t experts, slot_index slots)
        : policy_(made(policy, layers, experts)),
          table({.layers = layers, .experts = experts, .slots_max = slots, .base_address = 64, .slot_bytes = 64}) {
        table.configure(slots, *policy_);
    }

    void visit(std::int32_t layer, const wave& experts, const wave& prompt_only = {}) {
        for (const std::int32_t expert : experts)
            ++(table.holds({layer, expert}) ? hits : loads);
        std::vector<residency_table::pin> pins;
        table.pin_wave(layer, experts, pins, prompt_only);
        for (const auto& pin : pins) {
            if (pin.state == slot_state::empty)
                table.complete(pin.slot);
            table.unpin(pin.slot);
        }
    }

    double hit_rate() const { return static_cast<double>(hits) / static_cast<double>(hits + loads); }

private:
    std::unique_ptr<eviction_policy> policy_;

public:
    residency_table table;
    int hits = 0, loads = 0;
};

/// What leaves for `incoming` when everything may.
expert_id leaves(std::string_view policy, std::int32_t layers, const std::vector<std::pair<std::int32_t, wave>>& visits,
                 slot_index slots, expert_id incoming) {
    CAPTURE(policy);
    loaded_table tested(policy, layers, 8, slots);
    for (const auto& [layer, experts] : visits)
        tested.visit(layer, experts);
    REQUIRE(tested.table.resident() == slots);
    std::vector<expert_id> before;
    for (slot_index slot = 0; slot < slots; ++slot)
        before.push_back(tested.table.expert(slot));
    tested.visit(incoming.layer, {incoming.expert});
    for (const expert_id expert : before)
        if (!tested.table.holds(expert))
            return expert;
    return {-1, -1};
}

} // namespace

TEST_CASE("policies are made by name; other names and sizes are refused") {
    REQUIRE(eviction_policy_names().size() >= 7);
    CHECK(eviction_policy_names().front() == "foresight");
    for (const std::string_view name : eviction_policy_names())
        CHECK(made(name, 3, 8)->name() == name);
    CHECK(make_eviction_policy("mru", {3, 8, 3}).error().code == errc::invalid_argument);
    CHECK(make_eviction_policy("lru", {0, 8, 3}).error().code == errc::invalid_argument);
    CHECK(make_eviction_policy("lru", {3, 0, 3}).error().code == errc::invalid_argument);
    CHECK(make_eviction_policy("lru", {3, 8, 0}).error().code == errc::invalid_argument);
}

TEST_CASE("the order of every policy on an example worked out by hand") {
    // Expert 0.1 was used often and long ago, 0.2 once and lately, 1.3 in every second visit of its layer.
    const std::vector<std::pair<std::int32_t, wave>> visits = {{0, {1}}, {1, {3}}, {0, {1}}, {1, {}},
                                                               {0, {1}}, {1, {3}}, {0, {2}}, {1, {}}};
    const expert_id incoming{1, 5};
    CHECK(leaves("lru", 2, visits, 3, incoming) == expert_id{0, 1});
    // Layer 1 is at its quota of one slot: its own leaves.
    CHECK(leaves("lru_layer", 2, visits, 3, incoming) == expert_id{1, 3});
    CHECK(leaves("lfu_decay", 2, visits, 3, incoming) == expert_id{0, 2});
    // Uses over visits since: 0.1: 3 / 2; 0.2: 1 / 1; 1.3: 2 / 3.
    CHECK(leaves("lfru", 2, visits, 3, incoming) == expert_id{1, 3});
    // Unused in 1, 0 and 2 visits.
    CHECK(leaves("least_stale", 2, visits, 3, incoming) == expert_id{1, 3});
    // Use rates of about 3/4, 1/4 and 2/5, and layer 0 is next: 1 + 2 x 4/3, 1 + 2 x 4, 2 + 2 x 5/2.
    CHECK(leaves("next_visit", 2, visits, 3, incoming) == expert_id{0, 2});
}

TEST_CASE("of equals, next_visit and foresight give up what was visited just now: it returns last") {
    for (const char* const policy : {"next_visit", "foresight"})
        CHECK(leaves(policy, 3, {{0, {0}}, {1, {0}}, {2, {0}}, {0, {0}}, {1, {0}}, {2, {0}}, {0, {0}}}, 3, {0, 5}) ==
              expert_id{0, 0});
}

TEST_CASE("an LRU per layer does what the plainest model of it does") {
    std::mt19937 random(5);
    constexpr std::int32_t layers = 4, experts = 8;
    for (const slot_index slots : {4, 9, 12, 20}) {
        CAPTURE(slots);
        loaded_table tested("lru_layer", layers, experts, slots);
        std::map<expert_id, int> used; // of residents
        const auto count = [&](std::int32_t layer) {
            return std::count_if(used.begin(), used.end(), [&](const auto& one) { return one.first.layer == layer; });
        };
        for (int now = 1; now < 2000; ++now) {
            const expert_id asked{now % layers, static_cast<std::int32_t>(random() % experts)};
            const bool present = used.count(asked) > 0;
            if (!present && static_cast<slot_index>(used.size()) == slots) {
                std::int32_t from = asked.layer;
                if (count(from) < slots / layers)
                    for (std::int32_t layer = 0; layer < layers; ++layer)
                        from = count(layer) > count(from) ? layer : from;
                auto oldest = used.end();
                for (auto one = used.begin(); one != used.end(); ++one)
                    if (one->first.layer == from && (oldest == used.end() || one->second < oldest->second))
                        oldest = one;
                REQUIRE(oldest != used.end());
                // Which of the equally full layers gives up is not promised.
                tested.visit(asked.layer, {asked.expert});
                if (tested.table.holds(oldest->first))
                    for (auto one = used.begin(); one != used.end(); ++one)
                        if (!tested.table.holds(one->first)) {
                            REQUIRE(count(one->first.layer) == count(from));
                            REQUIRE(count(asked.layer) < slots / layers);
                            oldest = one;
                        }
                used.erase(oldest);
            } else {
                tested.visit(asked.layer, {asked.expert});
            }
            used[asked] = now;
            for (const auto& [expert, when] : used)
                REQUIRE(tested.table.holds(expert));
        }
    }
}

TEST_CASE("what only a prompt wants leaves before what answers use, and does not wash it out") {
    constexpr std::int32_t layers = 4, experts = 32;
    const wave all = [] {
        wave every(experts);
        std::iota(every.begin(), every.end(), 0);
        return every;
    }();
    std::map<std::string_view, double> hit_rates;
    for (const std::string_view name : eviction_policy_names()) {
        loaded_table tested(name, layers, experts, 64);
        const auto answer = [&](int tokens) {
            for (int token = 0; token < tokens; ++token)
                for (std::int32_t layer = 0; layer < layers; ++layer)
                    tested.visit(layer, {token % 4, 4 + token % 3, 8 + token % 2});
        };
        answer(100);
        for (std::int32_t layer = 0; layer < layers; ++layer)
            for (std::size_t begin = 0; begin < all.size(); begin += 8)
                tested.visit(layer,
                             wave(all.begin() + static_cast<std::ptrdiff_t>(begin),
                                  all.begin() + static_cast<std::ptrdiff_t>(begin + 8)),
                             all);
        tested.hits = tested.loads = 0;
        answer(4);
        hit_rates[name] = tested.hit_rate();
    }
    CHECK(hit_rates["foresight"] > 0.9);
    CHECK(hit_rates["next_visit"] > 0.9);
    CHECK(hit_rates["lfu_decay"] > 0.9);
    CHECK(hit_rates["lru"] < 0.6); // the control: the prompt was long enough to do harm
}

TEST_CASE("affinity learns which experts follow which, and nothing from a visit of very many") {
    // A token is of one of four kinds, which every layer shows in its experts.
    constexpr std::int32_t layers = 8, experts = 64;
    const std::vector<float> prior(experts, -2.0F);
    std::mt19937 random(7);
    for (const std::int32_t width : {4, 40}) { // experts of a kind
        CAPTURE(width);
        expert_affinity affinity({layers, experts, layers});
        const auto visit = [&](std::int32_t layer, std::int32_t kind) {
            affinity.visit_begins(layer, prior);
            wave used;
            for (std::int32_t i = 0; i < width; ++i)
                used.push_back((kind * width + i) % experts);
            affinity.used(used);
        };
        for (int token = 0; token < 1000; ++token) {
            const auto kind = static_cast<std::int32_t>(random() % 4);
            for (std::int32_t layer = 0; layer < layers; ++layer)
                visit(layer, kind);
        }
        for (std::int32_t layer = 0; layer < 4; ++layer)
            visit(layer, 2);
        const float same = affinity.log_odds({7, 2 * width % experts}), other = affinity.log_odds({7, 0});
        if (width == 40) {
            CHECK(same == 0);
            CHECK(other == 0);
        } else {
            CHECK(same > 2);
            CHECK(other < -1);
        }
        affinity.visit_begins(7, prior);
        CHECK(affinity.log_odds({7, 2 * width % experts}) == 0); // that was of the visit which began
    }
}

TEST_CASE("foresight keeps what a hint names, until its layer was visited") {
    loaded_table tested("foresight", 3, 8, 4);
    for (int token = 0; token < 4; ++token)
        for (std::int32_t layer = 0; layer < 3; ++layer)
            tested.visit(layer, layer == 1 ? wave{0, 1} : wave{0});
    tested.visit(0, {0});
    tested.table.hinted(1, std::array{expert_hint{1, 0.95F}});
    tested.table.hinted(2, std::array{expert_hint{0, 0.9F}});
    tested.visit(0, {5});
    tested.visit(0, {6});
    CHECK(tested.table.holds({1, 1}));
    CHECK(tested.table.holds({2, 0}));
}

TEST_CASE("policies that say so hit below the floor, where an LRU never does") {
    for (const std::string_view name : eviction_policy_names()) {
        CAPTURE(name);
        loaded_table tested(name, 8, 4, 9);
        for (int token = 0; token < 50; ++token)
            for (std::int32_t layer = 0; layer < 8; ++layer)
                tested.visit(layer, {0, 1});
        if (made(name, 8, 4)->works_below_floor())
            CHECK(tested.hit_rate() > 0.3);
        else if (name == "lru")
            CHECK(tested.hits == 0);
    }
}

TEST_CASE("what an earlier run used most stays, even before it is used again") {
    for (const char* const name : {"foresight", "next_visit", "lfu_decay", "lfru"}) {
        CAPTURE(name);
        const auto policy = made(name, 2, 4);
        policy->reset(3);
        policy->primed({0, 0}, 0.9F);
        policy->primed({0, 1}, 0.1F);
        policy->primed({0, 2}, 0.5F);
        for (slot_index slot = 0; slot < 3; ++slot)
            policy->inserted(slot, {0, slot});
        std::array<bool, 3> evictable = {true, true, true};
        CHECK(policy->victim({1, 0}, evictable) == 1);
        evictable[1] = false;
        CHECK(policy->victim({1, 0}, evictable) == 2);
    }
}
