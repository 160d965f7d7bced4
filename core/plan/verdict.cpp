#include "core/plan/verdict.hpp"

#include "core/plan/plan_sentences.hpp"

#include <algorithm>
#include <cmath>

namespace moira {

namespace {

/// Below it, waiting for experts is not what to talk about.
constexpr double stall_share_min = 0.05;
/// Fewer loads say nothing about a prefetcher.
constexpr std::uint64_t prefetch_loads_min = 32;
constexpr double prefetch_wasted_share_max = 0.5;
/// Below them, no policy could do much better, or nobody knows.
constexpr double regret_share_min = 0.1;
constexpr std::uint64_t regret_loads_min = 256;

std::string percent(double share) {
    return std::to_string(std::lround(100 * share)) + " %";
}

std::string speed_part(const verdict_facts& facts) {
    std::string text;
    if (facts.tok_s > 0)
        text += speed_text(facts.tok_s) + " tokens/s";
    if (facts.bandwidth_share)
        text += (text.empty() ? "" : ", ") + percent(*facts.bandwidth_share) + " of memory bandwidth";
    return text;
}

/// What a larger budget would change.
std::string remedy(const verdict_facts& facts) {
    if (facts.slots_all > 0 && facts.slots >= facts.slots_all)
        return "every expert was read once, the next answers will not wait";
    if (facts.evictions == 0 && !facts.bypass)
        return "no expert had to leave yet: they were read for the first time";
    if (!facts.slots_to_halve || *facts.slots_to_halve <= facts.slots)
        return "how much budget would help is unknown after so few tokens";
    return bytes_text((*facts.slots_to_halve - facts.slots) * facts.slot_bytes) + " more budget would halve it";
}

std::string waiting_part(const verdict_facts& facts, double share) {
    std::string text = percent(share) + " of the time waited for experts; " + remedy(facts);
    if (facts.regret_share && *facts.regret_share >= regret_share_min && facts.regret_loads >= regret_loads_min)
        text += "; a perfect cache of this size would have loaded " + percent(*facts.regret_share) + " less";
    if (facts.bypass)
        text += "; the budget is below one token's experts, so most of them are read anew for every token";
    return text;
}

std::string prefetch_part(const verdict_facts& facts) {
    if (facts.prefetch_loads < prefetch_loads_min)
        return {};
    const auto wasted = static_cast<double>(facts.prefetch_wasted) / static_cast<double>(facts.prefetch_loads);
    if (wasted <= prefetch_wasted_share_max)
        return {};
    return "; " + percent(wasted) + " of what was read ahead was not used: experts.prefetch=off may be faster";
}

} // namespace

std::string verdict(const verdict_facts& facts) {
    std::string text;
    const double share = facts.compute_s > 0 ? std::min(1.0, facts.stall_s / facts.compute_s) : 0;
    const auto speed = speed_part(facts);
    if (facts.compute_s <= 0) {
        text = "nothing was computed";
    } else if (facts.hits + facts.demand_loads == 0) {
        text = "no routed expert was asked for" + (speed.empty() ? "" : "; " + speed);
    } else if (share >= stall_share_min) {
        text = waiting_part(facts, share);
    } else if (facts.demand_loads == 0 || (facts.slots_all > 0 && facts.slots >= facts.slots_all)) {
        text = "all experts fit in memory" + (speed.empty() ? "" : "; " + speed);
    } else {
        text = "computing took the time; " + percent(share) + " of it waited for experts" +
               (speed.empty() ? "" : ", " + speed);
    }
    text += prefetch_part(facts);
    for (std::size_t i = 0; i < facts.lossy.size(); ++i)
        text += (i == 0 ? "; lossy: " : ", ") + facts.lossy[i];
    return text;
}

} // namespace moira
