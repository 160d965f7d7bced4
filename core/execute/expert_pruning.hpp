#pragma once

#include "core/base/error.hpp"
#include "core/execute/device.hpp"
#include "core/execute/layer_weights.hpp"
#include "core/execute/op_descriptions.hpp"
#include "core/experts/expert_store.hpp"
#include "core/model/model_shape.hpp"
#include "core/route/gate_mass.hpp"
#include "core/route/pruning_report.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace moira {

struct step_context;

enum class pruning_mode : std::uint8_t { off, gate_mass, cache_aware };

/// What of a token's experts may be left out or replaced. Everything but off is lossy.
struct pruning_options {
    pruning_mode mode = pruning_mode::off;
    double gate_mass = 1.0;        ///< see gate_mass_rule
    std::int32_t sacred_ranks = 1; ///< see cache_aware_rule
    double window = 0.0;           ///< see cache_aware_rule
};

/// Candidates per chosen expert from which cache-aware routing takes a substitute: far behind these the router's scores
/// are noise, and ranking all of hundreds costs time in every row.
inline constexpr std::int32_t pruning_candidates_per_rank = 4;

/// The lossy choice between router and experts, on the host: it changes ids and weights of a step before anybody loads,
/// computes or counts an expert. Works with any plugin: a rank that is left out has weight 0, which combine does not
/// read. choose(): the thread of the step; report(): any thread.
class expert_pruning {
public:
    /// Prepares what `options` need beside the model's own ops. Errors: invalid_argument (out of range), op_missing,
    /// out_of_memory, device_error.
    static result<std::unique_ptr<expert_pruning>> create(const pruning_options& options, const model_shape& shape,
                                                          const execution_limits& limits, op_set& ops,
                                                          const op_provider& memory);

    /// The router's logits of the layer are in the arena, and for gate_mass also its choice. Leaves the experts to run
    /// in arena.host_expert_ids (no_expert where a rank is left out) and their weights in arena.expert_weights. The
    /// queue is idle afterwards. Errors: device_error (also for an id out of range), those of the queue.
    result<void> choose(const step_context& step, std::int32_t layer, const moe_layer& moe, const expert_store& store);

    /// Ids as the router alone chose them in the last choose(): [rows, top_k].
    std::span<const std::int32_t> router_ids() const noexcept { return router_ids_; }

    /// Ranks of a prediction that are worth loading: where lower ones may be replaced, only the sacred ones.
    std::int32_t hinted_ranks() const noexcept;

    /// Whether the statistics of predictors compare with the router's choice and not with what runs.
    bool replaces() const noexcept { return options_.mode == pruning_mode::cache_aware; }

    pruning_report report() const;

    std::string numerics_id() const; ///< part of the engine's: "prune-mass-0.9"
    std::string lever() const;       ///< for lossy: "prune.gate_mass=0.9"
    std::string notice() const;      ///< a sentence for the operator

private:
    struct layer_counts {
        std::atomic<std::uint64_t> routings{0}, left_out{0}, replaced{0};
    };

    expert_pruning(const pruning_options& options, const model_shape& shape);
    result<void> choose_by_mass(const step_context& step, layer_counts& counts);
    result<void> choose_by_cache(const step_context& step, std::int32_t layer, const moe_layer& moe,
                                 const expert_store& store, layer_counts& counts);
    result<void> rank_experts(const step_context& step, const moe_layer& moe, std::size_t rows);
    result<void> check_ids(std::span<const std::int32_t> ids) const;

    pruning_options options_;
    moe_shape moe_;
    std::int32_t layers_;        ///< of the model; modules of multi-token prediction come after them
    std::size_t candidates_ = 0; ///< per row, of cache-aware routing
    const prepared_op* rank_ = nullptr;
    device_buffer ranked_ids_, ranked_scores_; ///< [rows, candidates]
    std::vector<std::int32_t> router_ids_, host_ranked_;
    std::vector<float> host_scores_, host_weights_;
    std::vector<std::int32_t> all_experts_;
    std::vector<std::uint8_t> present_;
    std::vector<layer_counts> counts_; ///< by layer number
};

} // namespace moira
