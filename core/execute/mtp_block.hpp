#pragma once

#include "core/base/error.hpp"
#include "core/execute/attention_block.hpp"
#include "core/experts/expert_store.hpp"

#include <cstdint>
#include <span>

namespace moira {

/// Rows of a step whose final hidden states a multi-token-prediction module goes on from: [first, first + count).
struct row_run {
    std::int32_t first = 0, count = 0;
};

/// Puts the final hidden states of these rows of the step, after the model's last norm, one after another into
/// arena.mtp_hidden. Comes before the arena gets the rows of the module's own pass. Precondition: all runs together fit
/// the arena.
result<void> keep_final_hidden(const step_context& step, std::span<const row_run> runs);

/// One multi-token-prediction module (DeepSeek-V3, section 2.2) on the rows whose plan was uploaded to the arena: row i
/// is at position i of its sequence and has the token of position i + 1; arena.mtp_hidden holds the hidden state of
/// position i. Leaves the block's output in arena.x; module.head_norm and the model's head make it the logits of token
/// i + 2. `kv_pool`: the module's own part of the KV cache. `stall_s` grows by the time spent waiting for experts.
result<void> run_mtp(const step_context& step, const mtp_module& module, void* kv_pool, expert_store& store,
                     double& stall_s);

} // namespace moira
