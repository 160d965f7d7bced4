#pragma once

#include "core/base/error.hpp"
#include "core/execute/attention_block.hpp"
#include "core/execute/forward_observer.hpp"
#include "core/experts/expert_store.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace moira {

/// The KV bytes: one pool per layer, [pages * page_tokens, kv_width] in limits.kv_type. Page ids are the batcher's.
struct kv_cache {
    /// `layers`: the model's and those of its multi-token-prediction modules.
    static result<kv_cache> create(const model_shape& shape, std::int32_t layers, const execution_limits& limits,
                                   const op_provider& memory);
    std::vector<device_buffer> layers;
};

/// Numbers between -1 and 1 all over one layer's pool: for measuring.
result<void> fill_with_noise(device_queue& queue, const device_buffer& pool, std::uint32_t kv_type);
/// The residual stream becomes the embeddings of the step's tokens.
result<void> embed(const step_context& step);

/// Logits of one wanted row: [vocabulary].
using logits_function = std::function<void(std::size_t sample, std::span<const float> logits)>;

/// Norm and head for some rows of `x` [rows, hidden], in blocks that fit the arena. The last block's normed rows stay in
/// arena.head_in.
result<void> project_logits(const step_context& step, const norm& last, const float* x, std::span<const std::int32_t> rows,
                            const logits_function& on_logits);

/// One forward pass of a step whose plan was uploaded to the arena. `sample_rows` are the rows whose logits are wanted.
result<void> forward(const step_context& step, kv_cache& cache, expert_store& store,
                     std::span<const std::int32_t> sample_rows, const logits_function& on_logits,
                     forward_observer* observer, double& stall_s);

/// The same for a plan of more rows than the arena holds: every layer takes the rows in blocks of at most `block_rows`
/// before the next layer begins, so that a long prompt reads each expert once and not once per block. Uploads the plan
/// itself. Nobody observes, predicts or chooses routes. Results are those of the blocks one after another: ops are
/// row-exact, and a row attends only to rows before it. Errors: those of forward; invalid_argument (no rows in a block).
result<void> forward_in_blocks(const step_context& step, const step_plan& plan, std::int32_t block_rows, kv_cache& cache,
                               expert_store& store, const logits_function& on_logits, double& stall_s);

}  // namespace moira
