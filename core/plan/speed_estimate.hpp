#pragma once

#include "core/plan/model_demands.hpp"

#include <cstdint>
#include <optional>

namespace moira {

/// How fast a machine is: 10^9 bytes per second.
struct machine_speed {
    double memory_gb_s = 0;          ///< read by all compute threads together
    std::optional<double> disk_gb_s; ///< experts into slots, several on their way; none: nobody knows
};

/// Where the time of one generated token goes, in seconds. step = dense + kv + experts + overhead + reads - hidden.
struct speed_estimate {
    double hit_rate = 0;
    double dense_s = 0;    ///< weights outside experts
    double kv_s = 0;       ///< keys and values of the tokens so far
    double experts_s = 0;  ///< computing all chosen experts
    double overhead_s = 0; ///< between ops
    double reads_s = 0;    ///< missing experts from the disk
    double hidden_s = 0;   ///< of the reads: while experts that were there were computed
    double step_s = 0;
    double tok_s = 0;
    double tok_s_overlapped = 0; ///< bound: were every read known early enough to hide behind computing
    std::uint64_t disk_bytes_per_token = 0;
};

/// One sequence at `context_tokens`. Each layer waits for its missing experts while it computes those that are there;
/// how many are missing is binomial at 1 - hit_rate. None where experts would miss and nobody knows the disk.
/// Precondition: memory_gb_s > 0.
std::optional<speed_estimate> estimate_speed(const model_demands& demands, const machine_speed& machine,
                                             double hit_rate, std::int32_t context_tokens);

} // namespace moira
