#pragma once

#include "core/batch/step_plan.hpp"
#include "core/speculate/draft_verifier.hpp"

#include <vector>

namespace moira {

/// The drafts of a step beside what was sampled at their places, one per sampling request. Empty when the result is a
/// failure or is not one of this plan.
std::vector<sampled_draft> drafts_of(const step_plan& plan, const step_result& outcome);

} // namespace moira
