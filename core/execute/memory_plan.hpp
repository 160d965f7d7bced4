#pragma once

#include "core/base/error.hpp"
#include "core/execute/step_arena.hpp"
#include "core/experts/device_margin.hpp"
#include "core/model/checkpoint.hpp"

#include <cstdint>
#include <string>

namespace moira {

/// Left to the process itself and to whatever the estimate forgets: code, tokenizer, threads, the kernel's own pages.
inline constexpr std::uint64_t memory_margin_bytes = 96ULL << 20;

/// What a model takes beside its experts, in bytes, before anything is allocated.
struct memory_needs {
    std::uint64_t dense = 0;   ///< weights that stay in memory
    std::uint64_t loading = 0; ///< the largest tensor once more while it is packed; before experts take memory
    std::uint64_t kv_cache = 0;
    std::uint64_t step = 0;    ///< activations and workspace of a step
    std::uint64_t long_step = 0; ///< of these, what a long step keeps in the host's memory
    std::uint64_t reading = 0; ///< scratch of loader threads
    std::uint64_t margin = memory_margin_bytes;
    bool on_device = false; ///< in memory of a device's own

    std::uint64_t beside_experts() const noexcept;
};

/// Rows of a step that reads each expert once: 2,048 tokens use nearly all experts of a layer, so that more rows save
/// little, and keep their neighbours waiting for seconds already.
inline constexpr std::int32_t long_step_rows_max = 2'048;

/// Memory for what such a step keeps of its rows while other rows are in the arena: states, and outputs of experts that
/// wait for those of later waves.
inline constexpr std::uint64_t long_step_bytes = 48ULL << 20;

/// Rows of such a step, so that long_step_bytes suffice with `slots` of the store.
std::int32_t long_step_rows(const model_shape& shape, std::int64_t slots);

/// The same model on a device with `bytes_total` of its own: what of these needs lies there, and what in the host's
/// memory.
memory_needs device_part(const memory_needs& all, std::uint64_t bytes_total) noexcept;
memory_needs host_part(const memory_needs& all) noexcept;

/// The experts' budget: `wanted_bytes` when it fits into `available_bytes` (0: nobody knows) beside all else, or, when
/// `automatic`, as much of it as fits. Errors: out_of_memory with the arithmetic.
result<std::uint64_t> plan_expert_budget(const memory_needs& needs, std::uint64_t wanted_bytes, bool automatic,
                                         std::uint64_t available_bytes);

/// The embedding table, when a step reads but a small part of it, so that its rows may be read when tokens need them;
/// null: it stays in memory.
const tensor_location* embedding_worth_leaving(const checkpoint& model, const model_weight_names& names,
                                               const execution_limits& limits);

/// `reading_bytes`: scratch of all loader threads. `left`: the table that stays on disk; null: none. With
/// `experts_move`, long steps are counted in.
memory_needs needs_beside_experts(const checkpoint& model, const model_weight_names& names,
                                  const execution_limits& limits, const step_arena::extras& more,
                                  std::uint64_t reading_bytes, const tensor_location* left, bool experts_move);

} // namespace moira
