#pragma once

#include "core/experts/loader_threads.hpp"
#include "core/plan/model_demands.hpp"

#include <cstdint>
#include <optional>

namespace moira {

/// How fast a machine is: 10^9 bytes per second, and what bringing experts costs its processors.
struct machine_speed {
    double memory_gb_s = 0;               ///< read by all compute threads together
    std::optional<double> disk_gb_s = {}; ///< experts as they lie in the files, several on their way; none: unknown
    double read_cpu_s = 0;                ///< of a loader's processor to read one expert; 0: nobody measured
    double pack_s = 0;                    ///< the same to pack it then; 0: nothing to pack, or nobody measured
    std::uint32_t loader_threads = loader_threads_default;
    std::uint32_t sharing_threads = 0; ///< compute threads whose processors loaders use too; 0: loaders have their own
};

/// Where the time of one generated token goes, in seconds.
///   compute = dense + kv + experts + overhead + loaders;  step = compute + stall + between
struct speed_estimate {
    double hit_rate = 0;
    double dense_s = 0;    ///< weights outside experts
    double kv_s = 0;       ///< keys and values of the tokens so far
    double experts_s = 0;  ///< computing all chosen experts
    double overhead_s = 0; ///< between ops
    double loaders_s = 0;  ///< for which loaders take the processors away from compute threads
    double compute_s = 0;
    double reads_s = 0;   ///< the link brings missing experts
    double stall_s = 0;   ///< of that, and of packing: while nothing could be computed
    double between_s = 0; ///< between steps
    double step_s = 0;
    double tok_s = 0;
    double tok_s_overlapped = 0; ///< bound: were every read known early enough to hide behind computing
    std::uint64_t disk_bytes_per_token = 0;
};

/// Share of the memory probe's bandwidth that the ops of a step of one row reach on weights that no cache holds: `moira
/// bench --batch 1` on a model of `moira synth moe-1b` says 0.84, 0.01 of it the layers' overhead.
inline constexpr double bandwidth_share = 0.85;
/// Time of a layer that its bytes do not explain: some 17 ops whose team starts and ends for about 1 us each, and
/// routing on the host. `moira bench --batch 1 --ops` on moira-demo, whose weights lie in the caches: steps of 284 us
/// read 14.3 MB at 0.85 of 145 GB/s in 116 us, which leaves 21 us for each of 8 layers.
inline constexpr double layer_overhead_s = 20e-6;
/// Time between two steps of one sequence: sampling, the actors' messages, the next plan. `moira bench --batch 1` says
/// 28 us (overhead_us.p50).
inline constexpr double between_steps_s = 30e-6;

/// Seconds for which a layer waits that misses `missing` of its `top_k` experts: residents are computed first
/// (expert_s each) while the missing ones travel, read_s apart and packed for pack_s. Those that travel together arrive
/// together, so the last `together` of them are computed after the last read.
double layer_stall_s(std::int32_t top_k, std::int32_t missing, double expert_s, double read_s, double pack_s,
                     std::int32_t together) noexcept;

/// One sequence at `context_tokens`. Each layer waits for its missing experts while it computes those that are there;
/// how many are missing is binomial at 1 - hit_rate. None where experts would miss and nobody knows the disk.
/// Precondition: memory_gb_s > 0.
std::optional<speed_estimate> estimate_speed(const model_demands& demands, const machine_speed& machine,
                                             double hit_rate, std::int32_t context_tokens);

} // namespace moira
