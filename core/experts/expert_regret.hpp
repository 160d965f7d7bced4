#pragma once

#include "core/experts/visit_window.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace moira {

struct layer_regret {
    std::int32_t layer = 0;
    std::uint64_t loads = 0, optimal_loads = 0;

    /// Below zero where the optimum gives the layer less memory than it had.
    std::int64_t loads_above() const noexcept {
        return static_cast<std::int64_t>(loads) - static_cast<std::int64_t>(optimal_loads);
    }
};

/// What a store loaded over its latest visits, and what Belady's optimum with bypass (see optimal_loads) would have
/// loaded in its place, beginning with the same experts in as many slots.
struct expert_regret {
    std::uint64_t uses = 0;                     ///< experts that these visits asked for
    std::uint64_t loads = 0, optimal_loads = 0; ///< those ahead of need included
    std::vector<layer_regret> layers = {};      ///< that were visited

    std::uint64_t loads_above() const noexcept { return loads < optimal_loads ? 0 : loads - optimal_loads; }
    std::optional<double> share() const noexcept; ///< of the loads; none: nothing was loaded
};

expert_regret regret_of(const visit_record& record);

} // namespace moira
