#pragma once

#include "core/base/error.hpp"
#include "core/experts/expert_store.hpp"

namespace moira {

/// What follows from the options of a store.
struct store_sizes {
    std::uint64_t slot_bytes = 0;
    std::int32_t routed_experts = 0; ///< of the whole model: more slots are never needed
    std::int32_t slots_floor = 0;
};

/// Errors: invalid_argument (options that contradict each other or the source).
result<store_sizes> check_options(const expert_store_options& options, const slab_source& source);

/// Slots that a budget holds. Errors: budget_too_small, with the arithmetic.
result<slot_index> slots_for(std::uint64_t budget_bytes, const expert_store_options& options, const store_sizes& sizes);

} // namespace moira
