#include "core/experts/expert_store.hpp"

#include <algorithm>
#include <utility>

// What can be told from a store's counters without the store.

namespace moira {

namespace {

std::optional<double> share(std::uint64_t part, std::uint64_t whole) {
    if (whole == 0)
        return std::nullopt;
    return static_cast<double>(part) / static_cast<double>(whole);
}

expert_demand since_then(expert_demand now, const expert_demand& earlier) noexcept {
    for (const auto counter : {&expert_demand::hits, &expert_demand::demand_loads, &expert_demand::demand_bytes})
        now.*counter -= std::min(now.*counter, earlier.*counter);
    return now;
}

hint_counts since_then(hint_counts now, const hint_counts& earlier) noexcept {
    for (const auto counter : {&hint_counts::given, &hint_counts::refused, &hint_counts::cancelled,
                               &hint_counts::absent, &hint_counts::absent_chosen, &hint_counts::misses})
        now.*counter -= std::min(now.*counter, earlier.*counter);
    return now;
}

} // namespace

std::optional<double> layer_statistics::hit_rate() const noexcept {
    return share(hits, hits + demand_loads);
}

std::optional<double> layer_statistics::recall() const noexcept {
    return share(hinted_found, hinted_misses);
}

layer_statistics layer_statistics::since(const layer_statistics& earlier) const noexcept {
    auto grown = *this;
    for (const auto counter :
         {&layer_statistics::hits, &layer_statistics::demand_loads, &layer_statistics::loads,
          &layer_statistics::prefetch_loads, &layer_statistics::prefetch_useful, &layer_statistics::prefetch_wasted,
          &layer_statistics::prefetch_wasted_bytes, &layer_statistics::hinted_misses, &layer_statistics::hinted_found})
        grown.*counter -= std::min(grown.*counter, earlier.*counter);
    grown.stall_s -= earlier.stall_s;
    return grown;
}

double expert_store_statistics::hit_rate() const noexcept {
    return share(hits, hits + demand_loads).value_or(0.0);
}

void expert_store_statistics::add_regret(expert_regret reckoned) {
    for (auto& layer : layers)
        for (const auto& of_layer : reckoned.layers)
            if (of_layer.layer == layer.layer)
                layer.regret_loads = of_layer.loads_above();
    regret = std::move(reckoned);
}

expert_store_statistics expert_store_statistics::since(const expert_store_statistics& earlier) const {
    using all = expert_store_statistics;
    auto grown = *this;
    for (const auto counter :
         {&all::hits, &all::demand_loads, &all::demand_bytes, &all::evictions, &all::waves, &all::prefetch_loads,
          &all::prefetch_useful, &all::prefetch_wasted, &all::prefetch_wasted_bytes, &all::profile_loads,
          &all::load_failures, &all::load_retries})
        grown.*counter -= std::min(grown.*counter, earlier.*counter);
    for (const auto time : {&all::stall_s, &all::compute_s, &all::step_stall_s, &all::link_idle_s})
        grown.*time -= earlier.*time;
    grown.drafted = since_then(drafted, earlier.drafted);
    grown.module = since_then(module, earlier.module);
    grown.hints = since_then(hints, earlier.hints);
    for (auto& layer : grown.layers) {
        const auto before =
            std::find_if(earlier.layers.begin(), earlier.layers.end(),
                         [&layer](const layer_statistics& other) { return other.layer == layer.layer; });
        if (before != earlier.layers.end())
            layer = layer.since(*before);
    }
    return grown;
}

} // namespace moira
