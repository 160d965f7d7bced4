#pragma once

#include "core/base/error.hpp"
#include "core/execute/attention_block.hpp"
#include "core/execute/forward_observer.hpp"
#include "core/experts/expert_store.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// The pairs of a step sorted by expert: what the expert op reads, and the union of experts that the step needs.
struct expert_assignment {
    std::vector<std::int32_t> experts;     ///< distinct, ascending
    std::vector<std::uint32_t> pair_begin; ///< [experts + 1]
    std::vector<moira_expert_pair> pairs;  ///< of one expert in ascending rows; [rows * top_k] less what was left out
};

/// `ids`: [rows, top_k], checked against `experts` (a kernel's output is not trusted to index host memory). `pruned`:
/// no_expert stands for ranks that are left out, which get no pair. Errors: device_error for an id out of range.
result<expert_assignment> assign_pairs(std::span<const std::int32_t> ids, std::int32_t top_k, std::int32_t experts,
                                       bool pruned = false);

// The parts of run_experts, for steps that take a layer's rows in blocks.

/// Routes the rows of the arena and brings the chosen ids to the host; the arena holds the gate weights and the
/// normalised rows then.
result<expert_assignment> route_rows(const step_context& step, const model_layer& layer, const moe_layer& moe,
                                     const expert_store& store);

/// Uploads the pairs, and with `shared` runs the shared experts. `assignment` lives until the queue is idle.
result<void> begin_experts(const step_context& step, const moe_layer& moe, const expert_assignment& assignment,
                           bool shared = true);

/// Launches the expert op on `experts`, which are resident and part of both `lease` and `assignment`. The queue is idle.
result<void> launch_experts(const step_context& step, const model_layer& layer, const moe_layer& moe,
                            const expert_store& store, const expert_assignment& assignment, const expert_lease& lease,
                            std::span<const std::int32_t> experts);

/// x += the outputs of all pairs, in rank order, and of the shared experts.
result<void> combine_experts(const step_context& step, const moe_layer& moe);

/// x += experts(norm(x)) + shared(norm(x)): routes every row, computes resident experts while missing ones travel, in
/// waves when the union exceeds the store's slots, and adds the outputs in rank order. `stall_s` grows by the time that
/// was spent waiting for experts. `observer` may be null.
result<void> run_experts(const step_context& step, const model_layer& layer, expert_store& store,
                         forward_observer* observer, double& stall_s);

/// x += ffn(norm(x)) of a layer without experts; `store` gets hints for the layer after it.
result<void> run_dense(const step_context& step, const model_layer& layer, expert_store& store);

}  // namespace moira
