#pragma once

#include "core/experts/loader_threads.hpp"
#include "core/plan/model_demands.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// What is asked for beside the model.
struct plan_wish {
    std::int32_t context = 0;                              ///< tokens of one conversation; at least 1
    std::int32_t page_tokens = 16;                         ///< context.page_tokens
    std::int32_t sequences = 16;                           ///< batch.max_sequences
    std::int32_t step_rows = 512;                          ///< batch.max_step_tokens
    std::uint64_t kv_budget_bytes = 0;                     ///< context.kv_budget: more than one context where it allows
    std::uint32_t loader_threads = loader_threads_default; ///< each with room for one expert as it lies on the disk
    std::optional<std::uint64_t> budget_bytes = {};        ///< experts.ram_budget; none: whatever is left
};

/// What goes where in a memory. All terms are bytes; used = dense + kv + arena + loader + reserve + budget.
struct budget_plan {
    bool fits = false;   ///< placed, and this version runs the model
    bool placed = false; ///< everything has room
    std::uint64_t memory_bytes = 0;
    std::uint64_t dense_bytes = 0, kv_bytes = 0;
    std::uint64_t arena_bytes = 0;   ///< activations of the largest step and its logits, without what ops ask for
    std::uint64_t loader_bytes = 0;  ///< experts on their way
    std::uint64_t reserve_bytes = 0; ///< program, tokenizer, threads, and what the estimate may miss
    std::uint64_t budget_bytes = 0;  ///< for the slots of experts
    std::uint64_t slots = 0;         ///< experts that these bytes hold
    std::uint64_t slots_min = 0;     ///< one token's in one layer: the store refuses less
    std::uint64_t slots_floor = 0;   ///< one token's in all layers: below it least-recently-used would hit nothing
    std::uint64_t slots_all = 0;
    std::uint64_t memory_bytes_min = 0; ///< the least that runs
    std::uint64_t memory_bytes_all = 0; ///< with every expert in memory
    std::vector<std::string> reasons;   ///< why it does not fit and what would help; or what is worth knowing

    double resident_share() const noexcept;
};

/// Pure arithmetic. `memory_bytes`: what the process may use.
budget_plan plan_budget(const model_demands& demands, const plan_wish& wish, std::uint64_t memory_bytes);

} // namespace moira
