#include "core/experts/residency_table.hpp"

#include <algorithm>

namespace moira {
namespace {

constexpr slot_index no_slot = -1;

/// Slots on probation: an eighth, so that wrong predictions never hold more of the memory than that. More than 64 would
/// be sixteen layers' worth of hints that nobody used.
constexpr slot_index probation_share = 8, probation_slots_max = 64;

/// Visits after which a use counts half in usage(): a profile is for other texts than this one, so it follows none.
constexpr float usage_half_life = 1024;

} // namespace

residency_table::residency_table(const shape& dimensions)
    : shape_(dimensions), usage_({.layers = dimensions.layers,
                                  .experts = dimensions.experts,
                                  .moe_layers = static_cast<std::int32_t>(dimensions.pass_waves)},
                                 usage_half_life),
      slots_by_index_(static_cast<std::size_t>(dimensions.slots_max)),
      evictable_(std::make_unique<bool[]>(static_cast<std::size_t>(dimensions.slots_max))) {
    const auto count = static_cast<std::size_t>(shape_.layers) * static_cast<std::size_t>(shape_.experts);
    slot_by_expert_.assign(count, no_slot);
    entries_.assign(count, moira_expert_entry{.address = 0, .generation = 0, .layout_id = shape_.layout_id});
    free_.reserve(slots_by_index_.size());
    left_for_hint_.assign(count, 0);
    unused_by_layer_.assign(static_cast<std::size_t>(shape_.layers), 0);
    speculative_.reserve(static_cast<std::size_t>(probation_slots_max));
}

void residency_table::configure(slot_index slots, eviction_policy& policy) {
    slots_ = slots;
    speculative_max_ = static_cast<std::size_t>(std::clamp(slots / probation_share, 1, probation_slots_max));
    for (slot_index index = slots; index < shape_.slots_max; ++index)
        give_up_above_bound(index);
    free_.clear();
    evictable_count_ = 0;
    std::vector<slot_index> held;
    for (slot_index index = shape_.slots_max - 1; index >= 0; --index) {
        evictable_[static_cast<std::size_t>(index)] = false;
        refresh_evictable(index);
        if (!below_bound(index))
            continue;
        if (at(index).state == slot_state::empty)
            free_.push_back(index); // from the top down: the lowest is taken first and memory fills gradually
        else
            held.push_back(index);
    }
    std::sort(held.begin(), held.end(),
              [this](slot_index a, slot_index b) { return std::pair(at(a).used, a) < std::pair(at(b).used, b); });
    policy_ = &policy;
    policy_->reset(slots_);
    for (const slot_index index : held)
        policy_->inserted(index, at(index).expert);
}

std::size_t residency_table::index_of(expert_id expert) const noexcept {
    return static_cast<std::size_t>(expert.layer) * static_cast<std::size_t>(shape_.experts) +
           static_cast<std::size_t>(expert.expert);
}

bool residency_table::fits(std::int32_t layer, std::span<const std::int32_t> experts) const {
    slot_index needed = 0, takeable = static_cast<slot_index>(free_.size()) + evictable_count_;
    for (const std::int32_t expert : experts) {
        const slot_index index = slot_by_expert_[index_of({layer, expert})];
        if (index == no_slot)
            ++needed;
        else if (evictable_[static_cast<std::size_t>(index)])
            --takeable; // its own wave pins it
    }
    return needed <= takeable;
}

void residency_table::pin_wave(std::int32_t layer, std::span<const std::int32_t> experts, std::vector<pin>& pins,
                               std::span<const std::int32_t> prompt_only, bool continues) {
    if (!continues)
        ++wave_;
    const eviction_wave wave{.layer = layer, .experts = experts, .prompt_only = prompt_only, .continues = continues};
    usage_.wave_begins(wave);
    policy_->wave_begins(wave);
    const std::size_t first = pins.size();
    // All residents first: a load of this wave must not evict what the same wave needs.
    for (const std::int32_t expert : experts) {
        const slot_index index = slot_by_expert_[index_of({layer, expert})];
        pins.push_back({.expert = expert, .slot = index});
        if (index == no_slot)
            continue;
        slot& found = at(index);
        pins.back().state = found.state;
        pins.back().generation = found.generation;
        pins.back().speculative = found.speculative;
        if (found.speculative)
            end_speculation(index, true);
        found.used = wave_;
        ++found.pins;
        refresh_evictable(index);
        if (below_bound(index))
            policy_->touched(index);
    }
    expire_speculation(layer);
    for (pin& wanted : std::span(pins).subspan(first)) {
        if (wanted.slot != no_slot)
            continue;
        note_regret({layer, wanted.expert});
        wanted.slot = take_slot({layer, wanted.expert});
        wanted.generation = at(wanted.slot).generation;
    }
}

slot_index residency_table::take_slot(expert_id incoming) {
    if (free_.empty())
        evict(victim(incoming));
    const slot_index index = free_.back();
    free_.pop_back();
    assign(index, incoming, false);
    return index;
}

residency_table::speculative_room residency_table::room_for_speculation(expert_id incoming, bool may_evict) const {
    if (expired_slot() != no_slot)
        return speculative_room::free; // nobody misses it
    if (speculative_.size() >= speculative_max_)
        return speculative_room::none;
    if (!free_.empty())
        return speculative_room::free;
    return may_evict && cold_slot(incoming) != no_slot ? speculative_room::evicts : speculative_room::none;
}

std::optional<slot_index> residency_table::take_speculative(expert_id incoming, bool may_evict) {
    const bool within = speculative_.size() < speculative_max_;
    if (!within || free_.empty()) {
        slot_index leaving = expired_slot();
        if (leaving == no_slot && within && may_evict) {
            leaving = cold_slot(incoming);
            if (leaving != no_slot) {
                left_for_hint_[index_of(at(leaving).expert)] = wave_ + 1;
                ++speculation_.evictions;
            }
        }
        if (leaving == no_slot)
            return std::nullopt;
        evict(leaving);
    }
    const slot_index index = free_.back();
    free_.pop_back();
    ++speculation_.taken;
    assign(index, incoming, true);
    return index;
}

std::optional<slot_index> residency_table::take_empty(expert_id incoming) {
    if (free_.empty())
        return std::nullopt;
    const slot_index index = free_.back();
    free_.pop_back();
    assign(index, incoming, false);
    at(index).pins = 0;
    return index;
}

void residency_table::primed(expert_id expert, float use_rate) {
    usage_.prime(expert, use_rate);
    policy_->primed(expert, use_rate);
}

/// The oldest whose layer was visited without it.
slot_index residency_table::expired_slot() const noexcept {
    for (const slot_index index : speculative_)
        if (at(index).expired && evictable_[static_cast<std::size_t>(index)])
            return index;
    return no_slot;
}

/// What the policy would give up, unless it is warm.
slot_index residency_table::cold_slot(expert_id incoming) const {
    const std::span<const bool> evictable(evictable_.get(), static_cast<std::size_t>(slots_));
    const auto chosen = policy_->victim(incoming, evictable);
    if (!chosen || *chosen < 0 || *chosen >= slots_ || !evictable[static_cast<std::size_t>(*chosen)])
        return no_slot;
    const slot& leaving = at(*chosen);
    return !leaving.speculative && wave_ - leaving.used >= shape_.pass_waves ? *chosen : no_slot;
}

void residency_table::end_speculation(slot_index index, bool used) {
    at(index).speculative = at(index).expired = false;
    std::erase(speculative_, index);
    ++(used ? speculation_.used : speculation_.unused);
    unused_by_layer_[static_cast<std::size_t>(at(index).expert.layer)] += !used;
}

void residency_table::note_regret(expert_id missed) noexcept {
    std::uint64_t& left = left_for_hint_[index_of(missed)];
    if (left != 0 && wave_ - left <= 2 * shape_.pass_waves)
        ++speculation_.regretted;
    left = 0;
}

void residency_table::expire_speculation(std::int32_t layer) noexcept {
    for (const slot_index index : speculative_)
        at(index).expired = at(index).expired || at(index).expert.layer == layer;
}

slot_index residency_table::victim(expert_id incoming) {
    if (const slot_index unasked = expired_slot(); unasked != no_slot)
        return unasked;
    const std::span<const bool> evictable(evictable_.get(), static_cast<std::size_t>(slots_));
    const auto chosen = policy_->victim(incoming, evictable);
    if (chosen && *chosen >= 0 && *chosen < slots_ && evictable[static_cast<std::size_t>(*chosen)])
        return *chosen;
    // A policy that names none or a pinned one must not cost correctness: any unpinned slot will do.
    return static_cast<slot_index>(std::find(evictable.begin(), evictable.end(), true) - evictable.begin());
}

void residency_table::assign(slot_index index, expert_id incoming, bool speculative) {
    slot& taken = at(index);
    // One counter for all slots, so that an expert that comes back into another slot has another generation too. Zero
    // is what an entry shows that never held anything.
    if (++generation_ == 0)
        generation_ = 1;
    taken = {.expert = incoming,
             .state = slot_state::loading,
             .pins = speculative ? 0U : 1U,
             .generation = generation_,
             .used = wave_,
             .speculative = speculative};
    if (speculative)
        speculative_.push_back(index);
    slot_by_expert_[index_of(incoming)] = index;
    policy_->inserted(index, incoming);
}

void residency_table::unpin(slot_index index) {
    --at(index).pins;
    give_up_above_bound(index);
    refresh_evictable(index);
}

void residency_table::complete(slot_index index) {
    slot& loaded = at(index);
    loaded.state = slot_state::resident;
    ++resident_;
    ++loaded_;
    moira_expert_entry& entry = entries_[index_of(loaded.expert)];
    entry.generation = loaded.generation;
    entry.address = slot_address(index);
    give_up_above_bound(index);
    refresh_evictable(index);
}

void residency_table::abandon(slot_index index) {
    slot& failed = at(index);
    slot_by_expert_[index_of(failed.expert)] = no_slot;
    if (failed.speculative)
        end_speculation(index, false);
    failed.state = slot_state::empty;
    failed.pins = 0;
    if (!below_bound(index))
        return;
    policy_->removed(index);
    free_.push_back(index);
}

void residency_table::evict(slot_index index) {
    slot& leaving = at(index);
    entries_[index_of(leaving.expert)].address = 0;
    slot_by_expert_[index_of(leaving.expert)] = no_slot;
    if (leaving.speculative)
        end_speculation(index, false);
    leaving.state = slot_state::empty;
    --resident_;
    ++evictions_;
    refresh_evictable(index);
    if (!below_bound(index))
        return;
    policy_->removed(index);
    free_.push_back(index);
}

void residency_table::give_up_above_bound(slot_index index) {
    if (!below_bound(index) && at(index).state == slot_state::resident && at(index).pins == 0)
        evict(index);
}

void residency_table::refresh_evictable(slot_index index) noexcept {
    const slot& shown = at(index);
    const bool now = shown.state == slot_state::resident && shown.pins == 0 && below_bound(index);
    bool& was = evictable_[static_cast<std::size_t>(index)];
    evictable_count_ += static_cast<slot_index>(now) - static_cast<slot_index>(was);
    was = now;
}

const moira_expert_entry* residency_table::entries(std::int32_t layer) const noexcept {
    return entries_.data() + index_of({layer, 0});
}

std::uint64_t residency_table::slot_address(slot_index index) const noexcept {
    return shape_.base_address + static_cast<std::uint64_t>(index) * shape_.slot_bytes;
}

slot_index residency_table::occupied_end() const noexcept {
    slot_index end = shape_.slots_max;
    while (end > 0 && at(end - 1).state == slot_state::empty)
        --end;
    return end;
}

} // namespace moira
