#pragma once

#include "core/base/error.hpp"
#include "core/execute/attention_block.hpp"
#include "core/execute/expert_assignment.hpp"
#include "core/execute/forward_observer.hpp"
#include "core/experts/expert_store.hpp"
#include "core/experts/expert_visit.hpp"

#include <span>

namespace moira {

// The parts of run_experts, for steps that take a layer's rows in blocks, or all layers at once.

/// arena.normed = norm(x), and the router's choice: gate weights in the arena, ids where they are wanted [rows, top_k].
struct router_args {
    moira_rmsnorm_args normalize;
    moira_gemm_args score;
    moira_router_topk_args choose;
};
router_args router_args_of(const step_context& step, const model_layer& layer, const moe_layer& moe, std::int32_t* ids);

/// Arguments of the shared experts, or of a dense block.
moira_expert_ffn_args every_row_args(const step_context& step, const gated_ffn& ffn);

/// Arguments of the routed experts, but for how many groups and pairs the arena holds.
moira_expert_ffn_args routed_args(const step_context& step, const moira_expert_entry* table);

/// Routes the rows of the arena and brings the chosen ids to the host; the arena holds the gate weights and the
/// normalised rows then.
result<void> route_rows(const step_context& step, const model_layer& layer, const moe_layer& moe,
                        const expert_store& store, expert_assignment& made);

/// Uploads the pairs, and with `shared` runs the shared experts. `assignment` lives until the queue is idle.
result<void> begin_experts(const step_context& step, const moe_layer& moe, const expert_assignment& assignment,
                           bool shared = true);

/// Launches the expert op on `experts`, which are part of `assignment`. The queue is idle.
result<void> launch_experts(const step_context& step, const model_layer& layer, const moe_layer& moe,
                            const expert_store& store, const expert_assignment& assignment,
                            std::span<const pinned_expert> experts);

moira_combine_args combine_args(const step_context& step, const moe_layer& moe);

/// x += the outputs of all pairs, in rank order, and of the shared experts.
result<void> combine_experts(const step_context& step, const moe_layer& moe);

/// x += experts(norm(x)) + shared(norm(x)): routes every row, computes resident experts while missing ones travel, and
/// adds the outputs in rank order. `stall_s` grows by the time that was spent waiting for experts; where one cannot be
/// read, arena.failed_rows grows by the rows that want it. `observer` may be null.
result<void> run_experts(const step_context& step, const model_layer& layer, expert_store& store,
                         forward_observer* observer, double& stall_s);

/// x += ffn(norm(x)) of a layer without experts; `store` gets hints for the layer after it.
result<void> run_dense(const step_context& step, const model_layer& layer, expert_store& store);

}  // namespace moira
