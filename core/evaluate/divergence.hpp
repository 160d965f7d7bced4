#pragma once

#include "core/base/error.hpp"
#include "core/evaluate/confidence_interval.hpp"
#include "core/evaluate/perplexity.hpp"
#include "core/execute/engine.hpp"

#include <cstddef>

namespace moira {

/// How far two engines part on the same text: means over the scored tokens.
struct text_divergence {
    enum quantity : std::size_t { kl, top1_agreement, nll, nll_delta };

    token_blocks sums;
    std::size_t windows = 0; ///< that are done
    bool interrupted = false;

    double mean_kl() const noexcept { return sums.mean(kl); }               ///< of `tested` from `reference`, nats
    double agreement() const noexcept { return sums.mean(top1_agreement); } ///< share of equal likeliest tokens
    double nll_tested() const noexcept { return sums.mean(nll); }
    double delta() const noexcept { return sums.mean(nll_delta); } ///< nll of `tested` less that of `reference`
};

/// Runs each window through both, a step at a time, so that only the reference's logits of one step are kept: at most
/// `divergence_kept_bytes_max`, for which steps are made smaller. Engines of equal settings give 0 and 1 exactly.
/// Errors: those of measure_likelihood; invalid_argument for engines of different vocabularies.
result<text_divergence> measure_divergence(engine& reference, engine& tested, const scored_text& text,
                                           const evaluation_progress<text_divergence>& progress);

/// A step of 512 rows of a vocabulary of 128 thousand; rows do not depend on the size of a step.
inline constexpr std::size_t divergence_kept_bytes_max = std::size_t{256} << 20;

} // namespace moira
