#pragma once

#include "core/base/ids.hpp"
#include "core/batch/kv_pages.hpp"
#include "core/batch/sequence.hpp"
#include "core/speculate/draft_length.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace moira {

struct speculation_options {
    draft_source source = draft_source::none;
    std::int32_t draft_max = 4; ///< tokens of one draft
    bool automatic = false;     ///< by repetition, or with `source` where that is measured to pay
    double tokens_before_trial = source_choice::tokens_before_trial_default; ///< of `automatic`
};

/// Which tokens the sequences of the next step draft. Drafts take only what nobody else wants: rows that the step has
/// left and KV pages that are really free. Plain state of the batcher; the proposals themselves are core/speculate's.
class draft_planner {
public:
    struct room {
        std::int32_t rows_free = 0;   ///< of the step
        std::int32_t rows_max = 0;    ///< of one sequence
        std::int64_t context_max = 0; ///< tokens of one sequence
    };

    explicit draft_planner(const speculation_options& options)
        : options_(options), choice_(options.source == draft_source::model, options.tokens_before_trial) {}

    bool on() const noexcept { return options_.source != draft_source::none && options_.draft_max > 0; }

    /// What a new sequence drafts with.
    draft_source source_of_new() noexcept {
        return !on() ? draft_source::none : options_.automatic ? choice_.at_start() : options_.source;
    }

    /// A draft for each running sequence, empty for most: `rows` are those of the step, without drafts. Grows the pages
    /// of those that draft.
    std::vector<std::vector<token_id>> plan(std::span<const std::unique_ptr<sequence>> running,
                                            std::span<const std::int32_t> rows, const room& left, kv_pages& pages);

    /// How many tokens the model may offer behind the next token of a sequence that has `rows` rows and a draft of
    /// `drafted` in the step; takes pages that nobody needs for them. Nothing where the model does not draft.
    std::optional<std::int32_t> offer_max(sequence& owner, std::int32_t rows, std::size_t drafted, const room& left,
                                          kv_pages& pages) const;

    /// The step planned last, of decoding rows only, drafts included, took `cost` and gave so many tokens.
    void note_step(std::int32_t rows, double tokens, double cost) noexcept {
        control_.note_step(rows, cost);
        choice_.note_step(rows_, tokens, cost, ngram_drafted_, model_drafts_);
    }

    /// One more token drafted by the model took `cost`.
    void note_draft(double cost) noexcept { control_.note_draft(cost); }

private:
    std::vector<token_id> propose(sequence& owner, std::size_t length_max);

    speculation_options options_;
    draft_control control_;
    source_choice choice_;
    bool ngram_drafted_ = false, model_drafts_ = false; ///< in the step planned last
    std::optional<bool> ngram_now_;                     ///< decided for the step, once
    std::int32_t rows_ = 0, tokens_ = 0; ///< of the step planned last, without drafts
};

} // namespace moira
