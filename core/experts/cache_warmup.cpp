#include "core/experts/cache_warmup.hpp"

#include <algorithm>

namespace moira {

void cache_warmup::begin(const expert_profile& profile, residency_table& table) {
    struct used_expert {
        float rate;
        expert_id expert;
    };
    std::vector<used_expert> used;
    for (std::int32_t layer = 0; layer < profile.layers; ++layer)
        for (std::int32_t expert = 0; expert < profile.experts; ++expert) {
            const auto place = static_cast<std::size_t>(layer) * static_cast<std::size_t>(profile.experts) +
                               static_cast<std::size_t>(expert);
            if (const float rate = profile.use_rates[place]; rate > 0) {
                used.push_back({rate, {layer, expert}});
                table.primed({layer, expert}, rate);
            }
        }
    std::stable_sort(used.begin(), used.end(),
                     [](const used_expert& a, const used_expert& b) { return a.rate < b.rate; });
    waiting_.clear();
    for (const used_expert& each : used)
        waiting_.push_back(each.expert);
}

std::optional<slot_index> cache_warmup::next(residency_table& table) {
    while (!waiting_.empty()) {
        const expert_id wanted = waiting_.back();
        waiting_.pop_back();
        if (table.holds(wanted))
            continue;
        const auto slot = table.take_empty(wanted);
        if (!slot)
            stop();
        loads_ += slot.has_value();
        return slot;
    }
    return std::nullopt;
}

} // namespace moira
