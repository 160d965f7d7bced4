#pragma once

#include "core/base/ids.hpp"
#include "core/experts/eviction_policy.hpp"
#include "core/experts/expert_history.hpp"
#include "plugins/moira_plugin.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace moira {

enum class slot_state : std::uint8_t { empty, loading, resident };

/// Which expert is in which slot, who pins it, and the table that kernels read. A plain state machine: no threads, no
/// I/O, no lock (the store holds one); numbers are checked by the store before they come here.
///
/// A slot goes empty -> loading -> resident -> empty. A loading or pinned slot is never taken. Slots at or above the
/// bound are being given up: they are emptied when they are resident and nobody pins them.
///
/// A speculative slot holds, or will hold, an expert that no wave has asked for yet. It is on probation: its first use
/// makes it a slot as any other; when its layer was visited without it, it is the first to leave. Experts used by one
/// of the last `pass_waves` visits are warm; speculation never evicts them.
class residency_table {
public:
    struct shape {
        std::int32_t layers = 0, experts = 0;
        slot_index slots_max = 0;       ///< the bound never exceeds this
        std::uint64_t base_address = 0; ///< of slot 0
        std::uint64_t slot_bytes = 0;
        std::uint32_t layout_id = 0;
        std::uint64_t pass_waves = 1; ///< visits in one pass through the model: its MoE layers
    };

    /// How speculation went. taken = used + unused + those that speculative_slots() still counts.
    struct speculation_counts {
        std::uint64_t taken = 0;     ///< slots given to experts that nobody had asked for
        std::uint64_t used = 0;      ///< of them: asked for before they left
        std::uint64_t unused = 0;    ///< of them: left, or failed to load, without having been asked for
        std::uint64_t evictions = 0; ///< cold experts that left for one of them
        std::uint64_t regretted = 0; ///< of those: asked for again within two passes
    };

    /// What a speculative slot would cost now.
    enum class speculative_room : std::uint8_t { none, free, evicts };

    /// One expert of a pinned wave. `state` is what it was before: empty means that it was given a slot now and that
    /// the caller must load it, then call complete() or abandon().
    struct pin {
        std::int32_t expert = 0;
        slot_index slot = 0;
        std::uint32_t generation = 0;
        slot_state state = slot_state::empty;
        bool speculative = false; ///< nobody had asked for it before
    };

    explicit residency_table(const shape& dimensions);

    /// Uses `slots` slots (at most slots_max) and `policy` from now on; the policy is reset and told of the residents,
    /// least recently used first. `policy` outlives the table or the next call.
    void configure(slot_index slots, eviction_policy& policy);

    /// Whether a wave of distinct experts could be pinned now, evicting what nobody pins.
    bool fits(std::int32_t layer, std::span<const std::int32_t> experts) const;

    /// Pins the whole wave, then gives a slot to each expert that has none. Precondition: fits(). Appends to `pins`, in
    /// the order of `experts`. `prompt_only` (ascending): those that nothing but rows of a prompt wants. `continues`:
    /// the wave belongs to the same visit of the layer as the one before.
    void pin_wave(std::int32_t layer, std::span<const std::int32_t> experts, std::vector<pin>& pins,
                  std::span<const std::int32_t> prompt_only = {}, bool continues = false);

    /// What a predictor expects of a layer's next visit, for the policy. The experts exist.
    void hinted(std::int32_t layer, std::span<const expert_hint> experts) { policy_->hinted(layer, experts); }

    /// Ends one pin of a loading or resident slot.
    void unpin(slot_index index);

    /// Whether an expert that has no slot could get a speculative one. `may_evict`: a cold expert may leave for it.
    speculative_room room_for_speculation(expert_id incoming, bool may_evict) const;

    /// Gives a slot to an expert that has none and that nobody asked for: loading, without a pin; then complete() or
    /// abandon(). None where there is no room.
    std::optional<slot_index> take_speculative(expert_id incoming, bool may_evict);

    /// Gives an empty slot to an expert that has none: loading, without a pin; then complete() or abandon(). None where
    /// no slot is empty.
    std::optional<slot_index> take_empty(expert_id incoming);

    /// An earlier run used `expert` in this share of its layer's visits.
    void primed(expert_id expert, float use_rate);

    /// How often each expert was used over some thousand visits of its layer.
    const expert_history& usage() const noexcept { return usage_; }

    /// Whether the expert has a slot, loading or resident.
    bool holds(expert_id expert) const noexcept { return slot_by_expert_[index_of(expert)] >= 0; }

    std::size_t speculative_slots() const noexcept { return speculative_.size(); }
    const speculation_counts& speculation() const noexcept { return speculation_; }

    /// Of speculation().unused: those of a layer.
    std::uint64_t speculation_unused(std::int32_t layer) const noexcept {
        return unused_by_layer_[static_cast<std::size_t>(layer)];
    }

    /// The loading slot holds its expert now: the kernels' table shows it.
    void complete(slot_index index);

    /// The load of this slot will not happen: the slot is empty and all its pins are over.
    void abandon(slot_index index);

    const moira_expert_entry* entries(std::int32_t layer) const noexcept;

    slot_state state(slot_index index) const noexcept { return at(index).state; }
    std::uint32_t pins(slot_index index) const noexcept { return at(index).pins; }
    expert_id expert(slot_index index) const noexcept { return at(index).expert; }
    slot_index slots() const noexcept { return slots_; }
    slot_index resident() const noexcept { return resident_; }
    std::uint64_t evictions() const noexcept { return evictions_; }
    std::uint64_t loaded() const noexcept { return loaded_; } ///< slots completed so far
    std::uint64_t slot_address(slot_index index) const noexcept;

    /// One past the highest slot that is not empty; O(slots).
    slot_index occupied_end() const noexcept;

private:
    struct slot {
        expert_id expert;
        slot_state state = slot_state::empty;
        std::uint32_t pins = 0;
        std::uint32_t generation = 0;
        std::uint64_t used = 0; // the visit that used it last
        bool speculative = false;
        bool expired = false; // speculative, and its layer was visited without it
    };

    slot& at(slot_index index) noexcept { return slots_by_index_[static_cast<std::size_t>(index)]; }
    const slot& at(slot_index index) const noexcept { return slots_by_index_[static_cast<std::size_t>(index)]; }
    std::size_t index_of(expert_id expert) const noexcept;
    bool below_bound(slot_index index) const noexcept { return index < slots_; }
    void refresh_evictable(slot_index index) noexcept;
    void evict(slot_index index);
    void give_up_above_bound(slot_index index);
    slot_index take_slot(expert_id incoming);
    slot_index victim(expert_id incoming);
    void assign(slot_index index, expert_id incoming, bool speculative);
    slot_index expired_slot() const noexcept;
    slot_index cold_slot(expert_id incoming) const;
    void end_speculation(slot_index index, bool used);
    void note_regret(expert_id missed) noexcept;
    void expire_speculation(std::int32_t layer) noexcept;

    shape shape_;
    expert_history usage_;
    eviction_policy* policy_ = nullptr;
    slot_index slots_ = 0;
    slot_index resident_ = 0;
    slot_index evictable_count_ = 0;
    std::uint64_t evictions_ = 0;
    std::uint64_t loaded_ = 0;
    std::uint64_t wave_ = 0;
    std::uint32_t generation_ = 0;
    std::size_t speculative_max_ = 0;
    std::vector<slot_index> speculative_;      // oldest first, at most speculative_max_ unless a resize lowered that
    std::vector<std::uint64_t> left_for_hint_; // [layers * experts]: the visit after which it did, 0: no
    speculation_counts speculation_;
    std::vector<std::uint64_t> unused_by_layer_; // [layers]
    std::vector<slot> slots_by_index_;
    std::vector<slot_index> free_;            // empty slots below the bound
    std::vector<slot_index> slot_by_expert_;  // [layers * experts], -1: none
    std::vector<moira_expert_entry> entries_; // [layers * experts], never reallocated
    std::unique_ptr<bool[]> evictable_;       // [slots_max]: resident, unpinned and below the bound
};

} // namespace moira
