#pragma once

#include "core/base/error.hpp"
#include "core/plan/hit_curve.hpp"
#include "core/plan/model_demands.hpp"
#include "core/route/route_trace.hpp"

#include <functional>
#include <string>

namespace moira {

/// Of a recording so many tokens are played, the first half of them to warm up: enough for a steady rate, a second or
/// so per budget.
inline constexpr std::uint64_t replayed_tokens_max = 16'384;

/// Hit rates of recorded routing: for every number of slots the simulator plays it through the store's own classes, one
/// sequence after another, each token as if it were generated. What `moira trace replay --policy P --slots N --steps S
/// --warm-up W` counts, with W half of S tokens, where the recording marks no prompts. Each number of slots is played
/// once; a recording of fewer layers than the model's stands for all of them. `policy`: as experts.policy.
/// `interrupted` may be empty. Errors: invalid_argument (a recording of another kind of model, or too few tokens; a
/// policy that does not exist); what is returned fails with cancelled and with the simulator's errors.
result<hit_source> hits_of_routes(route_trace trace, const model_demands& demands, std::string policy,
                                  std::function<bool()> interrupted = {});

} // namespace moira
