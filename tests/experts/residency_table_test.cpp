#include "core/experts/residency_table.hpp"

#include <algorithm>
#include <array>
#include <doctest/doctest.h>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <set>

using namespace moira;

namespace {

constexpr std::int32_t layers = 3, experts = 8;
constexpr slot_index slots_max = 12;
constexpr std::uint64_t base_address = 1 << 20, slot_bytes = 192;

/// Names slots that it must not: the table has to survive it.
class lying_policy final : public eviction_policy {
public:
    std::string_view name() const noexcept override { return "lying"; }
    void reset(slot_index) override {}
    void inserted(slot_index, expert_id) override {}
    void touched(slot_index) override {}
    void removed(slot_index) override {}
    std::optional<slot_index> victim(expert_id, std::span<const bool> evictable) override {
        switch (++calls_ % 3) {
        case 0:
            return std::nullopt;
        case 1:
            return static_cast<slot_index>(evictable.size() + 5);
        default:
            return static_cast<slot_index>(std::find(evictable.begin(), evictable.end(), false) - evictable.begin());
        }
    }

private:
    int calls_ = 0;
};

struct lease {
    std::int32_t layer = 0;
    std::vector<residency_table::pin> pins;
};

/// Runs random operations on a table and on the plainest model of it, and compares after each.
class comparison {
public:
    explicit comparison(unsigned seed)
        : random_(seed), table_({layers, experts, slots_max, base_address, slot_bytes, 3}) {
        configure(8);
    }

    void step() {
        switch (pick(8)) {
        case 0:
        case 1:
        case 2:
            acquire();
            break;
        case 3:
        case 4:
            release();
            break;
        case 5:
        case 6:
            finish(pick(4) != 0);
            break;
        default:
            if (pick(6) == 0)
                configure(static_cast<slot_index>(2 + pick(slots_max - 1)));
        }
        check();
    }

    int waves() const { return waves_; }

private:
    struct held_slot {
        expert_id expert;
        std::uint32_t generation = 0;
        bool resident = false;
        std::uint32_t pins = 0;
    };

    int pick(int bound) { return static_cast<int>(random_() % static_cast<unsigned>(bound)); }

    void configure(slot_index slots) {
        policies_.push_back(make_lru_policy(false));
        const auto names = eviction_policy_names();
        if (const int kind = pick(static_cast<int>(names.size()) + 3); kind == 1)
            policies_.back() = make_lru_policy(true);
        else if (kind == 2)
            policies_.back() = std::make_unique<lying_policy>();
        else if (kind > 2)
            policies_.back() =
                std::move(*make_eviction_policy(names[static_cast<std::size_t>(kind - 3)], {layers, experts, layers}));
        bound_ = slots;
        table_.configure(slots, *policies_.back());
        drop_above_bound();
    }

    void drop_above_bound() {
        std::erase_if(model_, [&](const auto& pair) {
            return pair.first >= bound_ && pair.second.resident && pair.second.pins == 0;
        });
    }

    std::optional<slot_index> slot_of(expert_id expert) const {
        for (const auto& [slot, held] : model_)
            if (held.expert == expert)
                return slot;
        return std::nullopt;
    }

    void acquire() {
        const std::int32_t layer = pick(layers);
        std::vector<std::int32_t> wave(experts);
        std::iota(wave.begin(), wave.end(), 0);
        std::shuffle(wave.begin(), wave.end(), random_);
        wave.resize(static_cast<std::size_t>(pick(std::min<int>(experts, bound_) + 1)));
        int needed = 0, usable = bound_;
        for (const std::int32_t expert : wave)
            needed += slot_of({layer, expert}) ? 0 : 1;
        for (const auto& [slot, held] : model_) {
            const bool in_wave =
                held.expert.layer == layer && std::find(wave.begin(), wave.end(), held.expert.expert) != wave.end();
            if (slot < bound_ && (!held.resident || held.pins > 0 || in_wave))
                --usable;
        }
        REQUIRE(table_.fits(layer, wave) == (needed <= usable));
        if (needed > usable)
            return;
        ++waves_;
        lease taken{layer, {}};
        std::vector<std::int32_t> prompt_only;
        for (std::int32_t expert = 0; expert < experts; ++expert)
            if (pick(4) == 0)
                prompt_only.push_back(expert);
        if (pick(3) == 0) {
            const std::array hints{expert_hint{pick(experts), 0.7F}, expert_hint{pick(experts), 2.0F}};
            table_.hinted(pick(layers), hints);
        }
        table_.pin_wave(layer, wave, taken.pins, prompt_only, layer == layer_ && pick(2) == 0);
        layer_ = layer;
        REQUIRE(taken.pins.size() == wave.size());
        for (std::size_t index = 0; index < wave.size(); ++index)
            note_pin(layer, wave[index], taken.pins[index]);
        leases_.push_back(std::move(taken));
    }

    void note_pin(std::int32_t layer, std::int32_t expert, const residency_table::pin& pin) {
        REQUIRE(pin.expert == expert);
        if (const auto slot = slot_of({layer, expert})) {
            held_slot& held = model_[*slot];
            REQUIRE(pin.slot == *slot);
            REQUIRE(pin.generation == held.generation);
            REQUIRE(pin.state == (held.resident ? slot_state::resident : slot_state::loading));
            ++held.pins;
            return;
        }
        REQUIRE(pin.state == slot_state::empty);
        REQUIRE(pin.slot < bound_);
        REQUIRE(generations_.insert(pin.generation).second);
        if (const auto old = model_.find(pin.slot); old != model_.end()) {
            REQUIRE(old->second.resident);
            REQUIRE(old->second.pins == 0);
        }
        model_[pin.slot] = {{layer, expert}, pin.generation, false, 1};
    }

    void release() {
        if (leases_.empty())
            return;
        const auto which = leases_.begin() + pick(static_cast<int>(leases_.size()));
        for (const auto& pin : which->pins) {
            const auto held = model_.find(pin.slot);
            if (held == model_.end() || held->second.generation != pin.generation)
                continue; // its load was abandoned
            --held->second.pins;
            table_.unpin(pin.slot);
        }
        leases_.erase(which);
        drop_above_bound();
    }

    void finish(bool succeeds) {
        std::vector<slot_index> loading;
        for (const auto& [slot, held] : model_)
            if (!held.resident)
                loading.push_back(slot);
        if (loading.empty())
            return;
        const slot_index slot = loading[static_cast<std::size_t>(pick(static_cast<int>(loading.size())))];
        if (succeeds) {
            model_[slot].resident = true;
            table_.complete(slot);
        } else {
            model_.erase(slot);
            table_.abandon(slot);
        }
        drop_above_bound();
    }

    void check() {
        slot_index resident = 0, end = 0;
        for (slot_index slot = 0; slot < slots_max; ++slot) {
            const auto held = model_.find(slot);
            if (held == model_.end()) {
                REQUIRE(table_.state(slot) == slot_state::empty);
                continue;
            }
            end = slot + 1;
            resident += held->second.resident;
            REQUIRE(table_.state(slot) == (held->second.resident ? slot_state::resident : slot_state::loading));
            REQUIRE(table_.expert(slot) == held->second.expert);
            REQUIRE(table_.pins(slot) == held->second.pins);
        }
        REQUIRE(table_.resident() == resident);
        REQUIRE(table_.occupied_end() == end);
        for (std::int32_t layer = 0; layer < layers; ++layer)
            for (std::int32_t expert = 0; expert < experts; ++expert)
                check_entry({layer, expert});
    }

    void check_entry(expert_id expert) {
        const moira_expert_entry& entry = table_.entries(expert.layer)[expert.expert];
        REQUIRE(entry.layout_id == 3);
        const auto slot = slot_of(expert);
        if (!slot || !model_[*slot].resident) {
            REQUIRE(entry.address == 0);
            return;
        }
        REQUIRE(entry.address == base_address + static_cast<std::uint64_t>(*slot) * slot_bytes);
        REQUIRE(entry.generation == model_[*slot].generation);
    }

    std::mt19937 random_;
    residency_table table_;
    std::vector<std::unique_ptr<eviction_policy>> policies_;
    slot_index bound_ = 0;
    std::map<slot_index, held_slot> model_;
    std::set<std::uint32_t> generations_;
    std::vector<lease> leases_;
    std::int32_t layer_ = -1; // of the wave before
    int waves_ = 0;
};

} // namespace

TEST_CASE("random operations: pinned slots stay, an expert has one slot, generations never repeat, entries are true") {
    for (unsigned seed = 1; seed <= 12; ++seed) {
        CAPTURE(seed);
        comparison pair(seed);
        for (int step = 0; step < 1500; ++step)
            pair.step();
        CHECK(pair.waves() > 100);
    }
}

TEST_CASE("recency survives a change of the bound") {
    const auto first = make_lru_policy(false), second = make_lru_policy(false);
    residency_table table({layers, experts, slots_max, base_address, slot_bytes, 3});
    table.configure(4, *first);
    std::vector<residency_table::pin> pins;
    for (const std::int32_t expert : {0, 1, 2, 3, 0}) {
        pins.clear();
        table.pin_wave(0, std::array{expert}, pins);
        if (pins[0].state == slot_state::empty)
            table.complete(pins[0].slot);
        table.unpin(pins[0].slot);
    }
    table.configure(4, *second);
    table.pin_wave(0, std::array{4}, pins);
    CHECK(table.entries(0)[0].address != 0);
    CHECK(table.entries(0)[1].address == 0); // the least recently used one left
}
