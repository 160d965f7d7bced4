#include "core/experts/expert_store_parts.hpp"

// Profiles: what fills empty slots at the start, and what the next start may be told.

namespace moira {

std::shared_ptr<expert_load> expert_store::impl::next_of_profile() {
    if (next_ticket != served_ticket)
        return nullptr; // a wave waits for slots
    const auto slot = warmup.next(table);
    if (!slot)
        return nullptr;
    auto load = make_load(table.expert(*slot), *slot);
    load->prefetched = true;
    by_layer.loading(load->expert.layer);
    window.loading(load->expert.layer);
    begun_by_slot[static_cast<std::size_t>(*slot)] = std::chrono::steady_clock::now();
    load_by_slot[static_cast<std::size_t>(*slot)] = load;
    return load;
}

result<void> expert_store::warm_up(const expert_profile& profile) {
    if (profile.layers != impl_->options.layers || profile.experts != impl_->options.experts)
        return fail(errc::invalid_argument, "a profile of " + std::to_string(profile.layers) + " layers of " +
                                                std::to_string(profile.experts) + " experts for a model of " +
                                                std::to_string(impl_->options.layers) + " of " +
                                                std::to_string(impl_->options.experts));
    const std::lock_guard held(impl_->lock);
    impl_->warmup.begin(profile, impl_->table);
    impl_->queue.speculate();
    return {};
}

void expert_store::stop_warm_up() {
    const std::lock_guard held(impl_->lock);
    impl_->warmup.stop();
}

expert_profile expert_store::usage() const {
    expert_profile profile;
    profile.layers = impl_->options.layers;
    profile.experts = impl_->options.experts;
    const std::lock_guard held(impl_->lock);
    for (std::int32_t layer = 0; layer < profile.layers; ++layer)
        for (std::int32_t expert = 0; expert < profile.experts; ++expert)
            profile.use_rates.push_back(impl_->table.usage().seen_rate({layer, expert}));
    return profile;
}

} // namespace moira
