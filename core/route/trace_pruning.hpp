#pragma once

#include "core/route/pruning_report.hpp"
#include "core/route/route_trace.hpp"

namespace moira {

/// Whether a recording says which of a token's experts weigh more: one that was made evenly gives all the same weight,
/// one without gate weights zeros, and then there is nothing to prune by.
bool has_gate_weights(const route_trace& trace) noexcept;

/// Makes of a recording what pruning by gate mass would have left of it, for whoever plays it: simulators take an
/// expert of a row once, so a rank that is left out names the row's heaviest expert again and gets weight 0. The other
/// weights stay as recorded. `mass`: see gate_mass_rule. A recording whose arrays are not whole is left as it is from
/// there on.
pruning_counts prune_trace(route_trace& trace, double mass);

} // namespace moira
