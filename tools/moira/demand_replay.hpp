#pragma once

#include "core/execute/forced_routes.hpp"
#include "core/experts/expert_store.hpp"

#include <cstdint>

namespace moira {

/// What a store would have to load without any prefetching: the same residency, played through without reading a byte.
struct demand_replay_counts {
    std::uint64_t hits = 0, demand_loads = 0;
};

/// Plays `warm_up` steps that are not counted, then `steps`. `slots` and `bypass` as
/// in the store. Errors: those of forced_routes; invalid_argument (fewer slots than one row needs).
result<demand_replay_counts> replay_demand(const route_trace& trace, const model_shape& shape, std::int32_t rows,
                                           std::int32_t slots, bool bypass, std::int32_t warm_up, std::int32_t steps);

} // namespace moira
