#pragma once

#include "core/base/error.hpp"
#include "core/experts/eviction_policy.hpp"
#include "core/experts/layer_statistics.hpp"
#include "core/experts/prefetch_admission.hpp"
#include "core/experts/prefetch_hints.hpp"
#include "core/simulate/expert_walk.hpp"
#include "core/simulate/replay_geometry.hpp"

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace moira {

struct replay_options {
    slot_index slots = 0;             ///< at least top_k
    std::int32_t model_layers = 0;    ///< all of them, dense ones included; 0: as far as the recording's last
    prefetch_policy prefetch = {};    ///< what hints lead to; off: they only reach the policy
    std::uint32_t travelling_max = 4; ///< absent experts of a visit that are sent for at a time, each in a
                                      ///< wave of its own: as expert_store::travelling_max()
    std::uint32_t layers_ahead = 1;   ///< hints after a layer: for so many layers behind it, into the next step too
    std::uint64_t warm_up_steps = 0;  ///< played first and not counted
    /// Steps of the walk behind these are not played: they are what the last steps' hints are for.
    std::uint64_t steps_max = std::numeric_limits<std::uint64_t>::max();
    std::optional<replay_geometry> geometry = {}; ///< none: every expert weighs 1 byte and nothing takes any time
};

/// What an engine would have counted. Names as in expert_store_statistics.
struct replay_counts {
    std::uint64_t steps = 0, tokens = 0, waves = 0;
    std::uint64_t hits = 0, demand_loads = 0, evictions = 0;
    std::uint64_t prefetch_loads = 0, prefetch_useful = 0, prefetch_wasted = 0, prefetch_open = 0;
    std::uint64_t prefetch_joined = 0; ///< demand loads that found their read begun by a hint: one read, counted twice
    std::uint64_t bytes = 0;           ///< read, in demand and ahead of it
    hint_counts hints;
    double seconds = 0;                   ///< of all steps: compute_s + stall_s
    double compute_s = 0;                 ///< dense layers, experts, head
    double stall_s = 0;                   ///< waiting for experts
    double link_s = 0;                    ///< the link was reading; the rest of `seconds` it was idle
    std::vector<layer_statistics> layers; ///< [layers of the recording], by the model's numbers; without regret
    std::string policy;                   ///< that was in force
    bool bypass = false;                  ///< below the floor

    double hit_rate() const noexcept {
        return hits + demand_loads == 0 ? 0.0 : static_cast<double>(hits) / static_cast<double>(hits + demand_loads);
    }
    double tokens_per_s() const noexcept { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0; }
};

/// Plays a walk through the same residency table, policy, hints and admission as the engine's expert store, wave by
/// wave in the same order, with a clock of its own instead of threads and reads:
///
///   a layer = its dense part | the router's choice, demand loads begin | resident experts | the others as they arrive
///
/// The link reads one expert at a time at disk_gb_s; demand goes before hints, a read that has begun is finished.
/// Without hints the counters are those of an engine exactly, whatever the geometry. `policy` is reset. `predictor` may
/// be null. `progress` (may be empty) hears the share that is done now and then; true stops: errc::cancelled. Errors:
/// invalid_argument (slots, layers or geometry that do not fit the recording), cancelled.
result<replay_counts> replay_store(const expert_walk& walk, const replay_options& options, eviction_policy& policy,
                                   trace_predictor* predictor = nullptr,
                                   const std::function<bool(double)>& progress = {});

/// Slots below which one token's experts do not fit: layers that route x top_k.
inline std::uint64_t slots_floor(const route_trace& trace) noexcept {
    return std::uint64_t{trace.layers} * trace.top_k;
}

} // namespace moira
