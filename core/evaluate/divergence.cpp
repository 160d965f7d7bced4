#include "core/evaluate/divergence.hpp"

#include "core/evaluate/prompt_pass.hpp"
#include "core/evaluate/token_likelihood.hpp"

#include <algorithm>
#include <optional>
#include <string>

namespace moira {

namespace {

class logits_observer : public forward_observer {
public:
    void hidden(std::int32_t, std::span<const float>) final {}
    void routing(std::int32_t, std::span<const std::int32_t>) final {}
};

/// Keeps the rows of one step in order.
class logits_keeper final : public logits_observer {
public:
    void logits(std::int32_t, std::span<const float> values) override {
        kept_.insert(kept_.end(), values.begin(), values.end());
    }

    void clear() noexcept { kept_.clear(); }
    std::span<const float> row(std::size_t index, std::size_t width) const {
        return std::span(kept_).subspan(index * width, width);
    }

private:
    std::vector<float> kept_;
};

/// Compares each row with the kept one as it comes.
class row_comparer final : public logits_observer {
public:
    row_comparer(const logits_keeper& reference, std::span<const token_id> ids, token_blocks& sums)
        : reference_(reference), ids_(ids), sums_(sums) {}

    void start(std::int32_t first) noexcept {
        first_ = first;
        index_ = 0;
    }

    void logits(std::int32_t row, std::span<const float> values) override {
        const auto expected = logits_row::of(reference_.row(index_++, values.size()));
        const auto found = logits_row::of(values);
        if (!expected || !found) {
            failure_ = failure_ ? failure_ : (expected ? found : expected).error();
            return;
        }
        const auto next = ids_[static_cast<std::size_t>(first_ + row) + 1];
        token_blocks::values token{};
        token[text_divergence::kl] = kl_divergence(*expected, *found);
        token[text_divergence::top1_agreement] = expected->best == found->best ? 1 : 0;
        token[text_divergence::nll] = found->nll(next);
        token[text_divergence::nll_delta] = found->nll(next) - expected->nll(next);
        sums_.add(token);
    }

    const std::optional<error>& failure() const noexcept { return failure_; }

private:
    const logits_keeper& reference_;
    std::span<const token_id> ids_;
    token_blocks& sums_;
    std::int32_t first_ = 0;
    std::size_t index_ = 0;
    std::optional<error> failure_;
};

/// Rows of a step that both take and whose logits may be kept.
std::int32_t rows_per_step(const engine& reference, const engine& tested) {
    const auto row_bytes = static_cast<std::size_t>(reference.shape().vocabulary) * sizeof(float);
    const auto kept_max = std::clamp<std::size_t>(divergence_kept_bytes_max / row_bytes, 1, 1 << 20);
    return std::min({reference.limits().rows_max, tested.limits().rows_max, static_cast<std::int32_t>(kept_max)});
}

result<void> compare_window(engine& reference, engine& tested, std::span<const token_id> ids, std::int32_t scored_first,
                            token_blocks& sums) {
    for (const auto* model : {&reference, &tested})
        if (auto fine = check_prompt(*model, ids); !fine)
            return fine;
    logits_keeper kept;
    row_comparer comparer(kept, ids, sums);
    // The last token predicts one outside the window.
    const auto rows = static_cast<std::int32_t>(ids.size()) - 1;
    const auto step = rows_per_step(reference, tested);
    for (std::int32_t first = 0; first < rows; first += step) {
        const auto count = std::min(step, rows - first);
        kept.clear();
        comparer.start(first);
        if (auto done = run_prompt_rows(reference, ids, first, count, scored_first - 1, kept); !done)
            return done;
        if (auto done = run_prompt_rows(tested, ids, first, count, scored_first - 1, comparer); !done)
            return done;
        if (comparer.failure())
            return tl::unexpected(*comparer.failure());
    }
    return {};
}

} // namespace

result<text_divergence> measure_divergence(engine& reference, engine& tested, const scored_text& text,
                                           const evaluation_progress<text_divergence>& progress) {
    if (reference.shape().vocabulary != tested.shape().vocabulary)
        return fail(errc::invalid_argument, "vocabularies of " + std::to_string(reference.shape().vocabulary) +
                                                " and " + std::to_string(tested.shape().vocabulary) +
                                                " tokens cannot be compared: use the same model");
    text_divergence found;
    const std::span<const token_id> ids(text.ids);
    for (const auto& window : text.windows) {
        const auto done = compare_window(reference, tested, ids.subspan(window.first, window.tokens()),
                                         static_cast<std::int32_t>(window.scored_first - window.first), found.sums);
        if (!done)
            return tl::unexpected(done.error());
        ++found.windows;
        if (progress && progress(found) && found.windows < text.windows.size()) {
            found.interrupted = true;
            break;
        }
    }
    return found;
}

} // namespace moira
