#pragma once

#include "core/base/ids.hpp"
#include "core/speculate/ngram_index.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace moira {

/// A text to follow from here on, or, where `text` is empty, one to forget.
struct follow_order {
    request_id request;
    std::vector<token_id> text; ///< prompt and what was emitted; the next sample stands behind it
};

/// What a step sampled for one request, and the draft that it verified.
struct sampled_draft {
    request_id request;
    std::int64_t position = 0;   ///< of the first sampled token: the length of the text before the step
    std::vector<token_id> draft; ///< may be empty
    std::vector<token_id> sampled;
};

/// Tokens that may follow the first `behind` tokens of a text. Where the text has grown meanwhile, what it grew by and
/// the tokens here must agree, or the proposal is void.
struct draft_proposal {
    std::int64_t behind = 0;
    std::vector<token_id> tokens;

    /// At most `count` tokens that may follow `text`.
    std::vector<token_id> behind_text(std::span<const token_id> text, std::size_t count) const;
};

/// What became of one request's draft.
struct draft_verdict {
    request_id request;
    std::size_t accepted = 0; ///< leading tokens of the draft that are right
    bool followed = false;    ///< false: the text is not known here (any more); follow it again to get proposals
    draft_proposal proposal;  ///< empty when nothing repeats
};

/// The verdicts on all drafts of a step.
struct step_verdict {
    std::uint64_t step = 0;
    std::vector<draft_verdict> drafts;
    bool news = false; ///< a draft was judged, something is proposed, or a text is not followed: worth a message

    const draft_verdict* find(request_id request) const noexcept;
};

/// Judges drafts, and proposes the next ones from the texts that it follows (repetition: ngram_index). Whoever
/// plans steps loses only proposals with it: judging is count_accepted, which anybody can do. Plain state, no clock; one
/// actor drives it.
class draft_verifier {
public:
    /// A proposal is longer than a draft by as much as its text may have grown when it arrives: by the step that runs
    /// meanwhile.
    static constexpr std::size_t late_tokens = 1;

    struct options {
        std::size_t texts_max = 16;      ///< followed together; beyond, the one judged longest ago is forgotten
        std::size_t tokens_max = 131072; ///< of one text; a longer one is forgotten
        std::size_t proposal_max = 4 + late_tokens; ///< tokens of a proposal
    };

    explicit draft_verifier(const options& limits) : limits_(limits) {}

    void follow(follow_order order);
    void forget(request_id request) { texts_.erase(request); }
    void forget_all() { texts_.clear(); }
    std::size_t followed() const noexcept { return texts_.size(); }

    /// Texts grow by what was accepted and the token behind it.
    step_verdict judge(std::uint64_t step, std::span<const sampled_draft> drafts);

private:
    struct followed_text {
        std::vector<token_id> tokens;
        ngram_index index;
        std::uint64_t judged = 0; ///< when, counted in judgements
    };

    draft_verdict judge_one(const sampled_draft& drafted);
    void make_room();

    options limits_;
    std::unordered_map<request_id, followed_text> texts_;
    std::uint64_t judgements_ = 0;
};

} // namespace moira
