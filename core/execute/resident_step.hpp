#pragma once

#include "core/base/error.hpp"
#include "core/execute/attention_block.hpp"
#include "core/execute/forward_observer.hpp"
#include "core/execute/layer_loop.hpp"
#include "core/execute/resident_step_counts.hpp"
#include "core/experts/residency_hold.hpp"

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <vector>

namespace moira {

/// Rows of a step up to which its launches are recorded as a graph, one per number of rows: a row that is not there
/// could not be told apart from one that attends and appends. Larger steps compute longer than the host needs to
/// launch them.
inline constexpr std::int32_t graph_rows_max = 64;

/// Graphs kept, the one that was used longest ago leaves first: as many as a batch has sizes while it fills and drains.
/// Each takes some hundred kilobytes of the device.
inline constexpr std::size_t graphs_max = 16;

/// Runs steps while every expert of the model is in memory: pairs are sorted by expert where the router's ids lie, so
/// that the host launches all layers without waiting for one; which experts were chosen it learns at the end, for
/// statistics and predictors. Where the device has graphs, all layers are one launch. The same bits as layer by layer:
/// the same ops on the same rows. Belongs to the thread that runs steps.
class resident_step {
public:
    /// Nothing: the chosen plugins cannot sort pairs on the device. Prepares its op in `ops`, before the arena is made.
    /// Errors: out_of_memory, device_error.
    static result<std::optional<resident_step>> create(const model_shape& shape, const execution_limits& limits,
                                                       op_set& ops, const op_provider& memory);

    /// What the step needs to be run by forward(); nothing: somebody wants to see or change what routers choose, or not
    /// every expert is here and readable for the kernels.
    std::optional<residency_hold> hold(const step_context& step, const step_plan& plan, expert_store& store,
                                       const forward_observer* observer) const;

    /// As forward() of layer_loop.hpp, for a step whose plan was uploaded to the arena.
    result<void> forward(const step_context& step, kv_cache& cache, expert_store& store, const residency_hold& held,
                         std::span<const std::int32_t> sample_rows, const logits_function& on_logits);

    const resident_step_counts& counts() const noexcept { return counts_; }

private:
    struct recorded_rows {
        std::int32_t rows = 0;
        device_graph graph;
    };

    resident_step() = default;
    result<void> refresh_tables(const step_context& step, const expert_store& store, std::uint64_t version);
    result<void> run(const step_context& step, kv_cache& cache, expert_store& store,
                     std::span<const std::int32_t> sample_rows, const logits_function& on_logits);
    result<void> run_layers(const step_context& step, kv_cache& cache, expert_store& store);
    result<void> run_moe(const step_context& step, const model_layer& layer, const moira_expert_entry* entries,
                         std::int32_t* ids);
    result<void> run_or_replay(const step_context& step, kv_cache& cache, expert_store& store);
    result<bool> record(const step_context& step, kv_cache& cache, expert_store& store);
    result<void> tell_routes(const step_context& step, expert_store& store);
    std::span<std::int32_t> ids_of(const step_context& step, std::size_t ordinal);

    const prepared_op* sort_pairs_ = nullptr;
    std::int32_t page_tokens_ = 0;
    std::vector<std::int32_t> moe_layers_;        ///< indices of layers with experts
    device_buffer ids_;                           ///< i32 [moe layers, rows, top_k] of the step's rows
    device_buffer group_count_;                   ///< u32 [1]
    std::vector<std::int32_t> host_ids_;          ///< the same as ids_
    std::vector<bool> seen_;                      ///< [graph_rows_max + 1]: a step of so many rows has run op by op
    std::optional<std::uint64_t> tables_version_; ///< of the store's tables: what the device has
    bool graphs_ = true;                          ///< as far as anybody knows
    std::list<recorded_rows> recorded_;           ///< used last first
    resident_step_counts counts_;
};

} // namespace moira
