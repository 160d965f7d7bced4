#include "core/speculate/draft_verifier.hpp"

#include "core/speculate/acceptance.hpp"

#include <algorithm>
#include <utility>

namespace moira {

std::vector<token_id> draft_proposal::behind_text(std::span<const token_id> text, std::size_t count) const {
    if (behind < 0 || behind > std::ssize(text))
        return {};
    const auto grown = text.subspan(static_cast<std::size_t>(behind));
    if (grown.size() >= tokens.size() || !std::equal(grown.begin(), grown.end(), tokens.begin()))
        return {};
    const auto first = tokens.begin() + std::ssize(grown);
    return {first, first + static_cast<std::ptrdiff_t>(std::min(count, tokens.size() - grown.size()))};
}

const draft_verdict* step_verdict::find(request_id request) const noexcept {
    const auto found = std::find_if(drafts.begin(), drafts.end(),
                                    [request](const draft_verdict& each) { return each.request == request; });
    return found == drafts.end() ? nullptr : &*found;
}

void draft_verifier::make_room() {
    while (!texts_.empty() && texts_.size() >= limits_.texts_max)
        texts_.erase(std::min_element(texts_.begin(), texts_.end(), [](const auto& left, const auto& right) {
            return left.second.judged < right.second.judged;
        }));
}

void draft_verifier::follow(follow_order order) {
    texts_.erase(order.request);
    if (order.text.empty() || order.text.size() > limits_.tokens_max || limits_.texts_max == 0)
        return;
    make_room();
    auto& text = texts_[order.request];
    text.tokens = std::move(order.text);
    text.index.extend(text.tokens);
    text.judged = judgements_;
}

draft_verdict draft_verifier::judge_one(const sampled_draft& drafted) {
    draft_verdict verdict;
    verdict.request = drafted.request;
    verdict.accepted = count_accepted(drafted.draft, drafted.sampled);
    const auto found = texts_.find(drafted.request);
    if (found == texts_.end() || verdict.accepted >= drafted.sampled.size())
        return verdict;
    auto& text = found->second;
    // Sampled before the order to follow was given: the text has it already.
    if (drafted.position < std::ssize(text.tokens)) {
        verdict.followed = true;
        return verdict;
    }
    // A step or an order was missed: what would be proposed belongs to another text.
    if (std::ssize(text.tokens) != drafted.position ||
        text.tokens.size() + verdict.accepted + 1 > limits_.tokens_max) {
        texts_.erase(found);
        return verdict;
    }
    const auto added = drafted.sampled.begin() + static_cast<std::ptrdiff_t>(verdict.accepted + 1);
    text.tokens.insert(text.tokens.end(), drafted.sampled.begin(), added);
    text.index.extend(text.tokens);
    text.judged = judgements_;
    verdict.followed = true;
    verdict.proposal = {std::ssize(text.tokens), text.index.propose(text.tokens, limits_.proposal_max)};
    return verdict;
}

step_verdict draft_verifier::judge(std::uint64_t step, std::span<const sampled_draft> drafts) {
    step_verdict verdict{step, {}};
    ++judgements_;
    for (const auto& each : drafts) {
        const auto& judged = verdict.drafts.emplace_back(judge_one(each));
        verdict.news = verdict.news || !each.draft.empty() || !judged.followed || !judged.proposal.tokens.empty();
    }
    return verdict;
}

} // namespace moira
