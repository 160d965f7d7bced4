#pragma once

#include "core/execute/engine.hpp"
#include "core/execute/expert_pruning.hpp"
#include "core/execute/layer_loop.hpp"
#include "core/execute/mtp_block.hpp"
#include "core/execute/mtp_drafting.hpp"
#include "core/execute/resident_step.hpp"
#include "core/execute/route_probe.hpp"

#include <memory>
#include <optional>

// What the engine's translation units share; nobody else includes it.

namespace moira {

/// How many multi-token-prediction modules are loaded: drafting goes on from the first one's own state.
inline std::int32_t mtp_modules(const engine_options& options) { return options.mtp ? 1 : 0; }

struct engine::impl {
    impl(checkpoint opened, const op_selector& chosen, const engine_options& wanted);

    result<void> load(load_progress progress);
    expert_store_options store_options() const;
    result<std::uint64_t> plan_kernel_store(std::uint64_t all_bytes);
    result<void> create_host_tier(const op_provider& memory, const expert_store_options& wanted,
                                  std::uint64_t device_budget, std::uint64_t all_bytes);
    result<void> create_stores(const expert_execution& experts, const op_provider& memory);
    void allow_long_steps();
    result<void> run_rows(const step_plan& plan, const logits_function& on_logits, forward_observer* observer,
                          double& stall_s);
    result<void> create_tables(const op_provider& memory);
    result<void> end_reading();
    result<void> run_mtp_pass(const mtp_pass& pass, const logits_function& on_logits, double& stall_s);
    result<void> carry_states(std::span<const std::size_t> stayed);
    result<void> offer_drafts(const step_plan& plan, step_result& outcome);
    result<std::optional<trained_predictor>> load_predictor() const;
    result<void> create_probe();

    /// On their way into a slot, or already when the model was packed: the same values.
    bool experts_rounded() const noexcept { return packing.quantizes() || !model.shape().quantized_from.empty(); }

    checkpoint model;
    const op_selector& selector;
    engine_options options;
    execution_limits limits;
    model_weight_names names;
    op_set ops;
    std::optional<device_queue> queue;
    model_weights weights;
    expert_packing packing;
    std::optional<device_memory> own_memory;   // none: kernels read the host's
    std::unique_ptr<slab_source> source;       // of the checkpoint
    std::unique_ptr<expert_store> host_store;  // below `store`, where the device has memory of its own; else null
    std::unique_ptr<slab_source> host_tier;    // of `store` then
    std::unique_ptr<expert_store> store;
    kv_cache cache;
    step_arena arena;
    std::optional<resident_step> resident; // none: a plugin lacks what it needs
    std::shared_ptr<route_board> routes;
    std::unique_ptr<expert_pruning> pruning;
    std::unique_ptr<route_probe> probe;
    route_override* route_choice = nullptr;
    step_arena::extras arena_extras;
    std::int32_t step_rows = 0;  // of one step, in blocks that the arena holds
    double load_s = 0;
};

}  // namespace moira
