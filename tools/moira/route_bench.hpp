#pragma once

#include "actors/runtime_parts.hpp"
#include "core/route/route_trace.hpp"
#include "core/simulate/optimal_replay.hpp"
#include "core/simulate/store_replay.hpp"
#include "tools/moira/bench_run.hpp"
#include "tools/moira/disk_probe.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace moira {

struct route_bench_options {
    std::int32_t batch = 1, warm_up = 0, gen_tokens = 0, repeat = 1;
    std::string predictor; ///< as make_trace_predictor reads it; empty: no hints
    prefetch_policy prefetch;
    bool settle = false; ///< steps wait until all that their hints lead to is loaded: no time decides then
};

/// What the simulator counts for the measured steps, and the speeds that it was given.
struct route_expectation {
    replay_counts counts;
    double memory_gb_s = 0, disk_gb_s = 0;
};

/// Decoding under a recorded routing.
struct route_bench_row {
    route_bench_options options;
    std::vector<double> decode_tok_s; ///< one per repeat
    std::vector<double> disk_gb_s;    ///< before the first repeat and after each: reading alone, nothing is packed
    std::vector<double> memory_gb_s;  ///< before the model was loaded and after it was gone
    bool disk_direct = true;          ///< see disk_probe::direct
    double step_weight_bytes = 0;     ///< dense ones and the distinct experts of a step
    expert_store_statistics before, after;
    std::uint64_t steps = 0;
    std::uint64_t replayed_hits = 0, replayed_loads = 0; ///< what demand alone would be, see replay_store
    std::optional<optimal_counts> optimum;               ///< see replay_optimum
    std::optional<route_expectation> expected;           ///< with hints; none: nobody gave any
    double source_bytes = 0;                             ///< of one expert in the checkpoint
    double wall_s = 0;                                   ///< of all measured steps
    std::string logits_hash;                             ///< of all sequences
    std::vector<std::string> lossy;                      ///< the engine's levers
};

/// Tokens per second that this machine allows, from the probes' medians: what a step must read of memory and what it
/// must load without any prefetching, one after the other or at the same time.
struct route_bounds {
    double compute_s = 0, load_s = 0; ///< of a step
    double demand_only_tok_s = 0, overlap_tok_s = 0;
};
route_bounds bounds_of(const route_bench_row& row);

/// Runs the engine alone: steps of one row of each sequence with fixed tokens, whose experts the recording chooses;
/// `warm_up` steps first that are not counted. Fills all but memory_gb_s: a probe well above the caches would take
/// memory from the experts. Errors: those of steps and of the probe; invalid_argument (the recording does not fit the
/// model, the tokens do not fit its context); cancelled.
result<route_bench_row> measure_routes(model_room& room, const route_trace& trace, disk_probe& disk,
                                       const weight_bytes& weights, const route_bench_options& options,
                                       const std::function<bool()>& interrupted, const bench_progress& progress);

} // namespace moira
