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

/// Probes the memory, loads the model with the plan's budget and context, reads experts past the page cache so that no
/// memory helps that the plan does not count, generates once to warm up and once to measure, the same text where every
/// expert fits and so none is loaded twice; gives the model back and probes again. Errors: those of loading, requests
/// and the probe; cancelled.
result<plan_verification> verify_plan(const plan_answer& answer, const std::string& wanted,
                                      const command_context& context, compute_pool& pool,
                                      const std::function<bool()>& interrupted);

} // namespace moira
