#include "core/batch/draft_planner.hpp"

#include <algorithm>

namespace moira {

namespace {

/// Of the tokens that a sequence may still emit the last one is not drafted: its row would give one too many.
std::size_t length_max_of(const sequence& owner, std::int32_t draft_max, const draft_planner::room& left) {
    const std::int64_t emitted = owner.token_count() - std::ssize(owner.request().prompt);
    const std::int64_t wanted = owner.request().tokens_max - emitted;
    const std::int64_t length =
        std::min({std::int64_t{draft_max}, wanted - 1, left.context_max - owner.token_count() - 1,
                  std::int64_t{left.rows_max} - 1, std::int64_t{left.rows_free}});
    return static_cast<std::size_t>(std::max<std::int64_t>(length, 0));
}

} // namespace

std::vector<token_id> draft_planner::propose(sequence& owner, std::size_t length_max) {
    const auto& known = owner.drafting;
    if (known.source != draft_source::ngram) {
        auto offered = known.offered;
        offered.resize(std::min(offered.size(), length_max));
        return offered;
    }
    auto proposed = known.proposal.behind_text(owner.tokens(), length_max);
    if (!options_.automatic || proposed.empty())
        return proposed;
    if (!ngram_now_)
        ngram_now_ = choice_.ngram_now();
    return *ngram_now_ ? proposed : std::vector<token_id>{};
}

std::optional<std::int32_t> draft_planner::offer_max(sequence& owner, std::int32_t rows, std::size_t drafted,
                                                     const room& left, kv_pages& pages) const {
    if (!on() || owner.drafting.source != draft_source::model)
        return std::nullopt;
    if (rows != owner.uncomputed())
        return 0;
    room next = left;
    next.rows_free = options_.draft_max;
    const auto length_max = static_cast<std::int32_t>(length_max_of(owner, options_.draft_max, next));
    // The first one comes with the pass that the module needs anyway; each further one is a pass of its own.
    const double chance_min = control_.chance_min(rows_, tokens_);
    std::int32_t length = std::min(length_max, 1);
    double chance = owner.drafting.accepted.probability();
    while (length > 0 && length < length_max && (chance *= owner.drafting.accepted.probability()) >= chance_min)
        ++length;
    pages.grow_unused(owner.pages, owner.computed() + rows + static_cast<std::int64_t>(drafted) + length - 1);
    return length;
}

std::vector<std::vector<token_id>> draft_planner::plan(std::span<const std::unique_ptr<sequence>> running,
                                                       std::span<const std::int32_t> rows, const room& left,
                                                       kv_pages& pages) {
    std::vector<std::vector<token_id>> drafts(running.size());
    if (!on())
        return drafts;
    rows_ = tokens_ = 0;
    ngram_drafted_ = model_drafts_ = false;
    ngram_now_.reset();
    std::vector<std::size_t> owners;
    std::vector<draft_candidate> candidates;
    for (std::size_t i = 0; i < running.size(); ++i) {
        sequence& owner = *running[i];
        rows_ += rows[i];
        // The layer can be left at any token; entered only at the first, since it must know the whole text.
        if (options_.automatic && owner.drafting.source == draft_source::model && !choice_.model_open())
            owner.drafting.source = draft_source::ngram;
        model_drafts_ = model_drafts_ || owner.drafting.source == draft_source::model;
        if (rows[i] != owner.uncomputed())
            continue;
        ++tokens_;
        if (rows[i] != 1)
            continue;
        drafts[i] = propose(owner, length_max_of(owner, options_.draft_max, left));
        owners.push_back(i);
        candidates.push_back({drafts[i].size(), owner.drafting.accepted.probability()});
    }
    const auto lengths = control_.choose(candidates, rows_, tokens_, left.rows_free);
    for (std::size_t i = 0; i < owners.size(); ++i) {
        auto& draft = drafts[owners[i]];
        auto& owner = *running[owners[i]];
        draft.resize(std::min(lengths[i], draft.size()));
        const auto slots = pages.grow_unused(owner.pages, owner.computed() + 1 + std::ssize(draft));
        draft.resize(
            static_cast<std::size_t>(std::clamp<std::int64_t>(slots - owner.computed() - 1, 0, std::ssize(draft))));
        ngram_drafted_ = ngram_drafted_ || (!draft.empty() && owner.drafting.source == draft_source::ngram);
    }
    return drafts;
}

} // namespace moira
