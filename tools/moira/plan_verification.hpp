#pragma once

#include "core/execute/compute_pool.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/plan_report.hpp"

#include <functional>
#include <string>

namespace moira {

/// Neighbours and short runs move a measurement by some ten percent; an estimate that is off by more than this factor
/// has another reason.
inline constexpr double verified_factor_max = 1.5;

/// Fills estimate, ratio, ratio_of_time_model and holds from what was measured. Pure.
void judge(plan_verification& verified, const plan_answer& answer);

/// What is probed beside the run.
struct verification_probes {
    compute_pool& pool;                   ///< reads the memory; no other task runs on it
    std::function<result<double>()> disk; ///< reads the disk once more, as the plan did; empty: it was given, or idle
};

/// Probes the memory, loads the model with the plan's budget and context, reads experts past the page cache so that no
/// memory helps that the plan does not count, generates once to warm up and once to measure, the same text where every
/// expert fits and so none is loaded twice; gives the model back and probes memory and disk. Errors: those of loading,
/// requests and the probes; cancelled.
result<plan_verification> verify_plan(const plan_answer& answer, const std::string& wanted,
                                      const command_context& context, const verification_probes& probes,
                                      const std::function<bool()>& interrupted);

} // namespace moira
