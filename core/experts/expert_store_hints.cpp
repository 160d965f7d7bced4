#include "core/experts/expert_store_parts.hpp"

#include <algorithm>

// Hints: what becomes of them, and whether a load ahead of time is worth it.

namespace moira {
namespace {

/// Weight of the newest useful load's head start in the average.
constexpr double newest_weight = 0.125;

} // namespace

/// What the hint has to do with an expert that a wave asks for. One that is on its way is joined: whoever waits for it
/// waits for the read that has begun.
void expert_store::impl::note_prefetched(std::int32_t layer, const residency_table::pin& pin) {
    if (pin.speculative || pin.state == slot_state::empty) {
        hints.missed(layer, pin.expert);
        by_layer.hinted(layer, hints.counts());
    }
    if (pin.speculative) {
        const std::chrono::duration<double> ahead =
            std::chrono::steady_clock::now() - begun_by_slot[static_cast<std::size_t>(pin.slot)];
        head_start_s += (head_start_s > 0 ? newest_weight : 1.0) * (ahead.count() - head_start_s);
    }
    if (pin.state == slot_state::loading)
        load_by_slot[static_cast<std::size_t>(pin.slot)]->wanted = true;
}

std::shared_ptr<expert_load> expert_store::impl::next_speculative() {
    while (const auto hint = hints.take()) {
        const expert_id expert{hint->layer, hint->expert};
        const bool may_evict = !counters.bypass;
        const bool slots_wanted = next_ticket != served_ticket; // a wave waits for slots
        const auto room = slots_wanted || table.holds(expert) ? residency_table::speculative_room::none
                                                              : table.room_for_speculation(expert, may_evict);
        const auto slot =
            worth_loading(hint->probability, room) ? table.take_speculative(expert, may_evict) : std::nullopt;
        if (!slot) {
            hints.refuse();
            continue;
        }
        auto load = make_load(expert, *slot);
        load->prefetched = true;
        by_layer.loading_ahead(expert.layer);
        window.loading(expert.layer);
        begun_by_slot[static_cast<std::size_t>(*slot)] = std::chrono::steady_clock::now();
        load_by_slot[static_cast<std::size_t>(*slot)] = load;
        return load;
    }
    return next_of_profile();
}

bool expert_store::impl::worth_loading(float probability, residency_table::speculative_room room) const {
    if (room == residency_table::speculative_room::none || hints.policy.mode == prefetch_mode::off)
        return false;
    const bool evicts = room == residency_table::speculative_room::evicts;
    return hints.policy.mode == prefetch_mode::always ||
           estimate_prefetch(static_cast<double>(probability), evicts, hints.policy.idle_core, measured()).worthwhile();
}

prefetch_figures expert_store::impl::measured() const {
    const auto share = [](std::uint64_t part, std::uint64_t whole) {
        return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
    };
    const auto& speculation = table.speculation();
    prefetch_figures figures;
    figures.stall_per_load_s = stall_per_load_s;
    figures.lead_s = head_start_s > 0 ? head_start_s : hints.lead_s();
    figures.read_s = queue.read_s();
    figures.cpu_s = queue.cpu_s();
    figures.stall_share = step_s > 0 ? std::min(step_stall_s / step_s, 1.0) : 0.0;
    figures.contention = share(met_by_demand, speculation.taken);
    figures.regret = share(speculation.regretted, speculation.evictions);
    return figures;
}

void expert_store::set_prefetch(const prefetch_policy& policy) {
    const std::lock_guard held(impl_->lock);
    impl_->hints.policy = policy;
}

std::size_t expert_store::hint_visits_wanted() const {
    const std::lock_guard held(impl_->lock);
    const auto& hints = impl_->hints;
    // With the likeliest prediction lately and a free slot: what no hint can beat.
    if (!impl_->queue.can_speculate() || impl_->table.resident() >= impl_->sizes.routed_experts ||
        !impl_->worth_loading(static_cast<float>(hints.likeliest()), residency_table::speculative_room::free))
        return 0;
    const bool in_time = hints.policy.mode == prefetch_mode::automatic && hints.lead_s() >= impl_->stall_per_load_s;
    return in_time ? 1 : hint_visits_max;
}

void expert_store::hint(std::int32_t layer, std::span<const expert_hint> experts, std::size_t visits, bool more) {
    const std::lock_guard held(impl_->lock);
    const bool known = layer >= 0 && layer < impl_->options.layers;
    for (const expert_hint& hint : experts) {
        if (!known || hint.expert < 0 || hint.expert >= impl_->options.experts)
            continue;
        impl_->existing.push_back(hint);
        if (!impl_->table.holds({layer, hint.expert}))
            impl_->absent.push_back(hint);
    }
    if (known)
        impl_->table.hinted(layer, impl_->existing);
    impl_->existing.clear();
    impl_->hints.give(layer, impl_->absent, experts.size(), std::chrono::steady_clock::now(), visits);
    impl_->absent.clear();
    if (!more && impl_->hints.waiting() > 0)
        impl_->queue.speculate();
}

} // namespace moira
