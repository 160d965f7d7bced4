#include "core/simulate/optimal_replay.hpp"

#include <algorithm>
#include <vector>

namespace moira {

optimal_counts replay_optimally(const expert_walk& walk, std::uint64_t slots, bool bypass,
                                std::uint64_t warm_up_steps) {
    const auto layers = walk.trace().layers;
    std::vector<std::uint16_t> layer_of_visit(walk.visits());
    for (std::size_t visit = 0; visit < walk.visits(); ++visit)
        layer_of_visit[visit] = static_cast<std::uint16_t>(visit % layers);
    const visit_list visits{layers, walk.trace().experts, layer_of_visit, walk.wanted_begins(), walk.wanted()};
    const auto first = std::min<std::uint64_t>(warm_up_steps, walk.steps()) * layers;
    return count_optimal_loads(visits, {.slots = slots, .bypass = bypass, .first_counted = first});
}

void add_regret(std::vector<layer_statistics>& layers, const optimal_counts& optimum) {
    for (std::size_t layer = 0; layer < std::min(layers.size(), optimum.layer_loads.size()); ++layer)
        layers[layer].regret_loads =
            static_cast<std::int64_t>(layers[layer].loads) - static_cast<std::int64_t>(optimum.layer_loads[layer]);
}

} // namespace moira
