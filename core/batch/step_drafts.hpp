#pragma once

#include "core/batch/step_plan.hpp"
#include "core/speculate/draft_verifier.hpp"

#include <vector>

namespace moira {

/// The drafts of a step beside what was sampled at their places, one per sampling request. Empty when the result is a
/// failure or is not one of this plan.
std::vector<sampled_draft> drafts_of(const step_plan& plan, const step_result& outcome);

/// What the step sampled for a request. Errors: internal (not `count` tokens, or one outside the vocabulary; 0: any).
result<std::vector<sampled_token>> samples_of(request_id request, std::size_t count, std::int32_t vocabulary,
                                              const step_result& outcome);

/// The tokens that the model offers to a request; none when one is outside the vocabulary, since it would only fail in
/// the next step.
std::vector<token_id> offer_to(request_id request, std::int32_t vocabulary, const step_result& outcome);

} // namespace moira
