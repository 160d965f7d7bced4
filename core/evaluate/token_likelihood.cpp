#include "core/evaluate/token_likelihood.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace moira {

result<logits_row> logits_row::of(std::span<const float> logits) {
    logits_row row;
    row.logits = logits;
    float largest = -std::numeric_limits<float>::infinity();
    for (std::size_t token = 0; token < logits.size(); ++token) {
        if (std::isnan(logits[token]))
            return fail(errc::device_error, "the logit of token " + std::to_string(token) + " is not a number");
        if (logits[token] > largest) {
            largest = logits[token];
            row.best = static_cast<token_id>(token);
        }
    }
    if (!std::isfinite(largest))
        return fail(errc::device_error, "the largest of " + std::to_string(logits.size()) + " logits is not finite");
    double sum = 0;
    for (const float logit : logits)
        sum += std::exp(static_cast<double>(logit) - static_cast<double>(largest));
    row.log_sum = static_cast<double>(largest) + std::log(sum);
    return row;
}

double kl_divergence(const logits_row& reference, const logits_row& tested) noexcept {
    double sum = 0;
    for (std::size_t token = 0; token < reference.logits.size(); ++token) {
        const double log_p = reference.log_probability(token);
        const double p = std::exp(log_p);
        // A token that the reference excludes adds nothing, whatever the other says: the limit of p log p.
        if (p > 0)
            sum += p * (log_p - tested.log_probability(token));
    }
    // Of nearly equal rows the rounding of a sum can end below the true value, which is never negative.
    return std::max(sum, 0.0);
}

} // namespace moira
