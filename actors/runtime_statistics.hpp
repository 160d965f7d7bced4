#pragma once

#include "core/batch/batcher.hpp"
#include "core/experts/expert_store.hpp"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// Every part of a runtime by the name of its actor: in logs, restarts and fault injection.
inline constexpr std::string_view runtime_part_names[] = {"intake",       "tokenize_worker", "batcher",   "execution_stream",
                                                          "expert_cache", "tcp_gateway",     "http_gateway", "route_predictor", "speculative_verifier", "supervisor"};

/// What never changes while a runtime lives: named in every final reply.
struct runtime_identity {
    std::string model;         ///< folder name
    std::string numerics_id;   ///< what a logits hash can be compared within
    std::map<std::string, std::string> plugins;  ///< op -> plugin
    std::vector<std::string> lossy;              ///< active lossy levers; empty: exact
    std::string speculation_mode = "off";
    std::int32_t vocabulary = 0, context_max = 0;
};

/// Counters of the whole runtime at one moment.
struct runtime_statistics {
    runtime_identity identity;
    batch_statistics batch;
    expert_store_statistics experts;
    double uptime_s = 0;
    double compute_s = 0, stall_s = 0;  ///< inside steps
    double overhead_us_p50 = 0, overhead_us_p99 = 0;  ///< per step outside its compute, over the last steps
    bool draining = false;
    bool step_hangs = false;                          ///< the step in flight exceeds its time
    std::map<std::string, std::uint64_t> restarts;    ///< lost parts that were started again
};

}  // namespace moira
