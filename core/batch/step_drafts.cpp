#include "core/batch/step_drafts.hpp"

namespace moira {

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

} // namespace moira
