#pragma once

#include "core/base/error.hpp"
#include "core/batch/step_plan.hpp"
#include "core/execute/expert_pruning.hpp"
#include "core/execute/forward_observer.hpp"
#include "core/execute/op_provider.hpp"
#include "core/execute/resident_step_counts.hpp"
#include "core/execute/weight_loader.hpp"
#include "core/experts/expert_store.hpp"
#include "core/model/checkpoint.hpp"
#include "core/route/predictor_choice.hpp"
#include "core/route/route_board.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace moira {

class route_override;

/// Memory for experts.
struct expert_budget {
    std::uint64_t bytes = 0;  ///< used when share is 0
    double share = 1.0;       ///< of all slabs of the model
    bool automatic = false;   ///< instead of both: what memory has left beside everything else

    /// What is wanted of `all_bytes`, all of them where it is automatic.
    std::uint64_t resolve(std::uint64_t all_bytes) const noexcept;
};

/// What the engine may use. Sizes are resolved when the model's shape is known.
struct engine_options {
    std::int32_t rows_max = 512;       ///< of one step, or of a block of it
    std::int32_t sequences_max = 16;   ///< rows whose logits are wanted in one step of serving
    std::int32_t context_max = 0;      ///< 0: the model's own; never more than that
    std::int32_t page_tokens = 16;
    std::uint64_t kv_budget_bytes = std::uint64_t{1} << 30;  ///< at least one full context is always given
    std::uint64_t experts_budget_bytes = 0;  ///< used when experts_budget_share is 0
    double experts_budget_share = 1.0;       ///< of all slabs of the model
    bool experts_budget_automatic = false;  ///< instead of both: what memory has left beside everything else
    expert_budget vram_budget;  ///< of a device's own memory; the three above are those of the host's then
    expert_io io = expert_io::automatic;
    std::uint32_t loader_threads = loader_threads_default;
    std::string eviction_policy = "foresight";  ///< a name that make_eviction_policy knows
    expert_precision precision = expert_precision::keep;  ///< of experts; fp8 is lossy where the checkpoint is wider
    pruning_options pruning = {};  ///< which chosen experts do not run; lossy
    bool mtp = false;  ///< also the first multi-token-prediction module: its layer, its experts, its KV cache
    bool predict_routes = false;  ///< evaluate routers early: for hints to the store, and for statistics
    predictor_choice predictor;   ///< that hints are made of
    bool measure_routes = false;  ///< all predictors in every step and not only now and then; implies predict_routes

    expert_budget ram_budget() const noexcept { return {experts_budget_bytes, experts_budget_share, experts_budget_automatic}; }
};

/// A loaded model on one device: weights, KV bytes, step arena and expert store. Outlives the actor that runs steps.
/// run_step and forward: one thread at a time. experts(): any thread.
class engine {
public:
    /// Opens nothing by itself: `model` is an open checkpoint, `selector` outlives the engine. Errors: those of
    /// check_runnable, op_set, checkpoint and expert_store.
    static result<std::unique_ptr<engine>> load(checkpoint model, const op_selector& selector,
                                                const engine_options& options, load_progress progress = {});

    ~engine();
    engine(const engine&) = delete;
    engine& operator=(const engine&) = delete;

    /// Forward pass and sampling of one step of at most step_rows_max() rows; with an observer, limits().rows_max. A
    /// failure is in the result; the engine stays usable.
    step_result run_step(const step_plan& plan, forward_observer* observer = nullptr);

    /// The multi-token-prediction module on the leading rows of the plan whose run_step has just succeeded (a
    /// plan that does not draft): `next_tokens[i]` follows the token of row i. The observer gets mtp_logits for each. Errors:
    /// unsupported (engine_options::mtp was not set), invalid_argument (more tokens than rows), those of a step.
    result<void> run_mtp_rows(const step_plan& plan, std::span<const token_id> next_tokens, forward_observer& observer);

    /// Overwrites all keys and values with numbers of its own between -1 and 1, in place of prompts: for measuring. No
    /// sequence that was computed before is good any more. Errors: device_error.
    result<void> fill_cache();

    /// Every op of the next steps is watched, one by one; null: none. Not while a step runs.
    void watch_launches(launch_watch* watch) noexcept;

    /// Experts of the next steps, but for those of multi-token-prediction modules, are chosen by `routes`; null: by the
    /// routers. Not while a step runs.
    void override_routes(route_override* routes) noexcept;

    bool has_mtp() const noexcept;  ///< the multi-token-prediction module is loaded
    const model_shape& shape() const noexcept;
    const checkpoint& model() const noexcept;
    const execution_limits& limits() const noexcept;
    /// Rows that one step may have. More than limits().rows_max where experts do not all fit in memory: such a step takes
    /// every layer block by block, so that a long prompt reads each expert once.
    std::int32_t step_rows_max() const noexcept;
    expert_store& experts() noexcept;  ///< the one that kernels read
    expert_store_statistics expert_statistics() const;              ///< with those of predictors; any thread
    const std::shared_ptr<route_board>& routes() const noexcept;    ///< null: nobody predicts
    std::uint64_t slab_bytes() const noexcept;
    std::uint64_t expert_source_bytes() const noexcept;  ///< of one expert in the checkpoint
    std::uint64_t kv_bytes() const noexcept;  ///< of the KV cache, all layers
    std::uint64_t dense_bytes() const noexcept;          ///< in the checkpoint, the embedding table included
    std::string numerics_id() const;
    std::vector<std::string> lossy() const;  ///< what makes answers differ from the checkpoint's; empty: nothing
    std::map<std::string, std::string> plugins() const;
    std::string summary() const;               ///< what runs where, in one line
    std::vector<std::string> notices() const;  ///< what an operator should know
    double load_s() const noexcept;
    resident_step_counts resident_steps() const noexcept;  ///< the thread that runs steps

private:
    struct impl;
    explicit engine(std::unique_ptr<impl> parts);
    std::unique_ptr<impl> impl_;
};

/// Plans the rows of one sequence alone in the KV pool: tokens [first, first + count) of `tokens`, logits wanted for all
/// of them. For evaluation; serving plans through the batcher. Precondition: the sequence fits limits.
step_plan plan_prompt_rows(std::span<const token_id> tokens, std::int32_t first, std::int32_t count,
                           const execution_limits& limits);

}  // namespace moira
