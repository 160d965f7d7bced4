#include "tools/moira/run_verdict.hpp"

#include "tools/moira/text_table.hpp"

#include <array>
#include <cstdio>

namespace moira {

namespace {

std::string percent(const std::optional<double>& share) {
    if (!share)
        return "-";
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f %%", 100 * *share);
    return text.data();
}

} // namespace

verdict_facts verdict_facts_of(const runtime_statistics& statistics, double tok_s) {
    const auto& experts = statistics.experts;
    verdict_facts facts;
    facts.tok_s = tok_s;
    facts.compute_s = statistics.compute_s;
    facts.stall_s = statistics.stall_s;
    facts.slots = experts.slots;
    facts.slots_all = experts.slots_all;
    facts.slot_bytes = experts.slot_bytes;
    facts.demand_loads = experts.demand_loads + experts.drafted.demand_loads + experts.module.demand_loads;
    facts.hits = experts.hits + experts.drafted.hits + experts.module.hits;
    facts.evictions = experts.evictions;
    facts.prefetch_loads = experts.prefetch_loads;
    facts.prefetch_useful = experts.prefetch_useful;
    facts.prefetch_wasted = experts.prefetch_wasted;
    facts.bypass = experts.bypass;
    if (experts.slots_to_halve > 0)
        facts.slots_to_halve = experts.slots_to_halve;
    if (experts.regret) {
        facts.regret_share = experts.regret->share();
        facts.regret_loads = experts.regret->loads;
    }
    facts.lossy = statistics.identity.lossy;
    return facts;
}

std::string layer_table(const expert_store_statistics& experts, bool colour) {
    if (experts.layers.empty())
        return {};
    text_table table(
        {"LAYER", "HITS", "LOADS", "HIT RATE", "READ AHEAD", "USED", "WASTED MIB", "RECALL", "STALL MS", "REGRET"});
    for (const auto& layer : experts.layers) {
        std::array<char, 32> stall{}, wasted{};
        std::snprintf(stall.data(), stall.size(), "%.1f", 1e3 * layer.stall_s);
        std::snprintf(wasted.data(), wasted.size(), "%.1f",
                      static_cast<double>(layer.prefetch_wasted_bytes) / (1 << 20));
        table.add({std::to_string(layer.layer), std::to_string(layer.hits), std::to_string(layer.demand_loads),
                   percent(layer.hit_rate()), std::to_string(layer.prefetch_loads),
                   std::to_string(layer.prefetch_useful), wasted.data(), percent(layer.recall()), stall.data(),
                   layer.regret_loads ? std::to_string(*layer.regret_loads) : "-"});
    }
    return table.print(colour);
}

} // namespace moira
