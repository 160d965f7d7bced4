#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"

#include <cstddef>
#include <span>

namespace moira {

/// What turns a row of logits into probabilities: log p(i) = logits[i] - log_sum. Double, with the largest logit taken
/// out first, so that nothing overflows. Errors: device_error (a logit that is NaN or +infinity, or none that is
/// finite).
struct logits_row {
    std::span<const float> logits; ///< borrowed
    double log_sum = 0;            ///< log of the sum of exp(logit)
    token_id best = 0;             ///< the smallest id among the largest logits

    static result<logits_row> of(std::span<const float> logits);

    double log_probability(std::size_t token) const noexcept { return static_cast<double>(logits[token]) - log_sum; }

    /// Negative log likelihood in nats. Precondition: `token` is in the vocabulary.
    double nll(token_id token) const noexcept { return -log_probability(static_cast<std::size_t>(token)); }
};

/// Kullback-Leibler divergence of `tested` from `reference` in nats: the sum over tokens of p (log p - log q), p of the
/// reference. Exactly 0 for equal rows, never negative, infinite where `tested` excludes what the reference does not.
/// Precondition: equal lengths.
double kl_divergence(const logits_row& reference, const logits_row& tested) noexcept;

} // namespace moira
