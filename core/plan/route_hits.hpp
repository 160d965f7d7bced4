#pragma once

#include "core/base/error.hpp"
#include "core/plan/hit_curve.hpp"
#include "core/plan/model_demands.hpp"
#include "core/route/route_trace.hpp"

namespace moira {

/// Hit rates of the recorded routing for every budget, one sequence after another, least recently used per layer, first
/// visits aside: what a model that has run for a while meets. Errors: invalid_argument (a recording of another kind of
/// model, or one without tokens).
result<hit_curve> hits_of_routes(const route_trace& trace, const model_demands& demands);

} // namespace moira
