#include "core/batch/step_drafts.hpp"

#include <algorithm>
#include <string>

namespace moira {

namespace {

bool outside(token_id token, std::int32_t vocabulary) {
    return token < 0 || (vocabulary > 0 && token >= vocabulary);
}

} // namespace

std::vector<sampled_draft> drafts_of(const step_plan& plan, const step_result& outcome) {
    std::vector<sampled_draft> drafts;
    if (outcome.failure || outcome.number != plan.number || outcome.samples.size() != plan.samples.size())
        return drafts;
    for (std::size_t i = 0; i < plan.samples.size(); ++i) {
        const auto& wanted = plan.samples[i];
        if (outcome.samples[i].request != wanted.request)
            return {};
        if (wanted.follows_draft && !drafts.empty())
            drafts.back().draft.push_back(plan.tokens[static_cast<std::size_t>(wanted.row)]);
        else
            drafts.push_back({wanted.request, wanted.position, {}, {}});
        drafts.back().sampled.push_back(outcome.samples[i].token);
    }
    return drafts;
}

result<std::vector<sampled_token>> samples_of(request_id request, std::size_t count, std::int32_t vocabulary,
                                              const step_result& outcome) {
    std::vector<sampled_token> found;
    for (const sampled_token& each : outcome.samples)
        if (each.request == request)
            found.push_back(each);
    if (found.size() != count)
        return fail(errc::internal, "step " + std::to_string(outcome.number) + " returned " +
                                        std::to_string(found.size()) + " tokens for request " +
                                        std::to_string(request.value) + ", expected " + std::to_string(count));
    for (const sampled_token& each : found)
        if (outside(each.token, vocabulary))
            return fail(errc::internal, "step " + std::to_string(outcome.number) + " returned token " +
                                            std::to_string(each.token) + " outside the vocabulary of " +
                                            std::to_string(vocabulary));
    return found;
}

std::vector<token_id> offer_to(request_id request, std::int32_t vocabulary, const step_result& outcome) {
    std::vector<token_id> offered;
    for (const offered_draft& each : outcome.offered)
        if (each.request == request)
            offered = each.tokens;
    if (std::any_of(offered.begin(), offered.end(), [=](token_id token) { return outside(token, vocabulary); }))
        offered.clear();
    return offered;
}

} // namespace moira
