#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/evaluate/confidence_interval.hpp"
#include "core/evaluate/text_windows.hpp"
#include "core/execute/engine.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace moira {

/// A text as a model reads it.
struct scored_text {
    std::vector<token_id> ids;
    std::vector<std::uint32_t> bytes; ///< of each token in the text; 0 for tokens that the tokenizer added
    std::vector<text_window> windows;
};

/// How well a model expects a text. Sums are over the scored tokens, in nats.
struct text_likelihood {
    std::uint64_t bytes = 0;
    std::size_t windows = 0; ///< that are done
    bool interrupted = false;
    token_blocks nll; ///< quantity 0

    double nll_per_token() const noexcept { return nll.mean(0); }
    double perplexity() const noexcept;
    std::optional<double> bits_per_byte() const noexcept; ///< none where the scored tokens have no bytes
};

/// Told after each window. True: stop here.
template <class T>
using evaluation_progress = std::function<bool(const T& so_far)>;

/// Runs each window from an empty context, in steps of at most the engine's rows_max, and scores its tokens. Nothing
/// but sums is kept. Errors: those of check_prompt and of the steps; device_error for logits that are not numbers.
result<text_likelihood> measure_likelihood(engine& model, const scored_text& text,
                                           const evaluation_progress<text_likelihood>& progress);

} // namespace moira
