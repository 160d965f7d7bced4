#include "core/experts/expert_regret.hpp"

#include "core/experts/optimal_loads.hpp"

namespace moira {

std::optional<double> expert_regret::share() const noexcept {
    if (loads == 0)
        return std::nullopt;
    return static_cast<double>(loads_above()) / static_cast<double>(loads);
}

expert_regret regret_of(const visit_record& record) {
    const visit_list visits{static_cast<std::uint32_t>(record.layers), static_cast<std::uint32_t>(record.experts),
                            record.layer, record.wanted_begin, record.wanted};
    const auto optimum = count_optimal_loads(visits, {.slots = record.slots, .resident = record.resident});
    std::vector<bool> visited(record.layer_loads.size());
    for (const auto layer : record.layer)
        visited[layer] = true;
    expert_regret made;
    made.uses = record.wanted.size();
    made.optimal_loads = optimum.loads;
    for (std::size_t layer = 0; layer < record.layer_loads.size(); ++layer) {
        made.loads += record.layer_loads[layer];
        if (visited[layer] || record.layer_loads[layer] > 0)
            made.layers.push_back(
                {static_cast<std::int32_t>(layer), record.layer_loads[layer], optimum.layer_loads[layer]});
    }
    return made;
}

} // namespace moira
