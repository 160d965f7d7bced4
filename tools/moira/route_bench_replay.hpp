#pragma once

#include "core/execute/engine.hpp"
#include "core/simulate/store_replay.hpp"
#include "tools/moira/bench_numbers.hpp"
#include "tools/moira/route_bench.hpp"

#include <cstdint>
#include <optional>

namespace moira {

/// What the same store would have to load of the measured steps without any prefetching: exact. Errors: the
/// simulator's.
result<replay_counts> replay_demand(const route_bench_row& row, const route_trace& trace, engine& model);

/// Uses of experts up to which the optimum is sought: about two seconds.
inline constexpr double optimum_uses_max = 1 << 24;

/// What Belady's optimum, which knows all that is to come, would have to load in its place; none: the search would take
/// longer than optimum_uses_max allows. Errors: the simulator's.
result<std::optional<optimal_counts>> replay_optimum(const route_bench_row& row, const route_trace& trace,
                                                     engine& model);

/// The same with the row's predictor and prefetch policy. Where the engine waited for its hints' loads
/// (options.settle), reads take no time in the simulator either; what remains is
/// the moment at which one load ends beside the next. Otherwise time
/// decides which hints are loaded before the demand: the simulator computes at the speed at which the engine computed
/// these steps, and loads at the speed at which the engine's link, when it was busy, brought bytes. Errors: the
/// simulator's; invalid_argument (a predictor that does not exist).
result<route_expectation> replay_prefetch(const route_bench_row& row, const route_trace& trace, engine& model,
                                          const weight_bytes& weights);

} // namespace moira
