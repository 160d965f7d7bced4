#include "core/evaluate/perplexity.hpp"

#include "core/evaluate/prompt_pass.hpp"
#include "core/evaluate/token_likelihood.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moira {

namespace {

/// Scores each row's next token as the row comes.
class token_scorer final : public forward_observer {
public:
    token_scorer(std::span<const token_id> ids, token_blocks& nll) : ids_(ids), nll_(nll) {}

    void start(std::int32_t first) noexcept { first_ = first; }
    void hidden(std::int32_t, std::span<const float>) override {}
    void routing(std::int32_t, std::span<const std::int32_t>) override {}

    void logits(std::int32_t row, std::span<const float> values) override {
        const auto scored = logits_row::of(values);
        if (!scored)
            failure_ = failure_ ? failure_ : scored.error();
        else
            nll_.add({scored->nll(ids_[static_cast<std::size_t>(first_ + row) + 1])});
    }

    const std::optional<error>& failure() const noexcept { return failure_; }

private:
    std::span<const token_id> ids_;
    token_blocks& nll_;
    std::int32_t first_ = 0;
    std::optional<error> failure_;
};

result<void> score_window(engine& model, std::span<const token_id> ids, std::size_t scored_first, token_blocks& nll) {
    if (auto fine = check_prompt(model, ids); !fine)
        return fine;
    token_scorer scorer(ids, nll);
    // The last token predicts one outside the window.
    const auto rows = static_cast<std::int32_t>(ids.size()) - 1;
    for (std::int32_t first = 0; first < rows; first += model.limits().rows_max) {
        const auto count = std::min(model.limits().rows_max, rows - first);
        scorer.start(first);
        if (auto done = run_prompt_rows(model, ids, first, count, static_cast<std::int32_t>(scored_first) - 1, scorer);
            !done)
            return done;
        if (scorer.failure())
            return tl::unexpected(*scorer.failure());
    }
    return {};
}

} // namespace

double text_likelihood::perplexity() const noexcept {
    return std::exp(nll_per_token());
}

std::optional<double> text_likelihood::bits_per_byte() const noexcept {
    if (bytes == 0)
        return std::nullopt;
    return nll.sum(0) / std::numbers::ln2 / static_cast<double>(bytes);
}

result<text_likelihood> measure_likelihood(engine& model, const scored_text& text,
                                           const evaluation_progress<text_likelihood>& progress) {
    text_likelihood found;
    const std::span<const token_id> ids(text.ids);
    for (const auto& window : text.windows) {
        const auto done = score_window(model, ids.subspan(window.first, window.tokens()),
                                       window.scored_first - window.first, found.nll);
        if (!done)
            return tl::unexpected(done.error());
        for (auto token = window.scored_first; token < window.last; ++token)
            found.bytes += text.bytes[token];
        ++found.windows;
        if (progress && progress(found) && found.windows < text.windows.size()) {
            found.interrupted = true;
            break;
        }
    }
    return found;
}

} // namespace moira
