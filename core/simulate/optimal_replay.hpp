#pragma once

#include "core/experts/layer_statistics.hpp"
#include "core/experts/optimal_loads.hpp"
#include "core/simulate/expert_walk.hpp"

#include <cstdint>
#include <vector>

namespace moira {

/// Belady's optimum on a walk: see count_optimal_loads. The first `warm_up_steps` are played and not counted.
optimal_counts replay_optimally(const expert_walk& walk, std::uint64_t slots, bool bypass,
                                std::uint64_t warm_up_steps = 0);

/// Fills regret_loads of the layers of a recording, each in its place, with what they loaded beyond the optimum.
void add_regret(std::vector<layer_statistics>& layers, const optimal_counts& optimum);

} // namespace moira
