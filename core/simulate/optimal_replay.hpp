#pragma once

#include "core/simulate/expert_walk.hpp"

#include <cstdint>

namespace moira {

/// What no policy that loads on demand can beat.
struct optimal_counts {
    std::uint64_t hits = 0, loads = 0;
    double hit_rate() const noexcept {
        return hits + loads == 0 ? 0.0 : static_cast<double>(hits) / static_cast<double>(hits + loads);
    }
};

/// Belady's optimum ("A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 1966) on
/// a walk: whoever is wanted again farthest from now leaves. A visit's experts are wanted together. `bypass`: an expert
/// may be computed and not kept, when it is wanted again later than everything that stays; without it, what a visit
/// wanted is resident afterwards (but for visits that want more than there are slots). The first `warm_up_steps` are
/// played and not counted. O(loads x experts of the model).
optimal_counts replay_optimally(const expert_walk& walk, std::uint64_t slots, bool bypass,
                                std::uint64_t warm_up_steps = 0);

} // namespace moira
