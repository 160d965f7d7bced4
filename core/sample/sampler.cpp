#include "core/sample/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <vector>

namespace moira {

namespace {

// Above 100 every distribution is flat to float precision; penalties beyond 100 only repeat "never again".
constexpr double temperature_max = 100.0;
constexpr double repetition_penalty_max = 100.0;

/// A token that may be chosen. `score` is its logit first, its weight relative to the best token later.
struct candidate {
    double score;
    token_id token;
};

bool better(const candidate& a, const candidate& b) noexcept {
    return a.score != b.score ? a.score > b.score : a.token < b.token;
}

bool lower_id(const candidate& a, const candidate& b) noexcept {
    return a.token < b.token;
}

/// Keskar et al. 2019: dividing only lowers positive logits, so negative ones are multiplied.
double penalised(double logit, double penalty) noexcept {
    return logit > 0 ? logit / penalty : logit * penalty;
}

/// Lists every token whose logit is a number, by ascending id, penalty applied once per token of the history.
void list_candidates(std::span<const float> logits, const sampling_parameters& parameters,
                     std::span<const token_id> history, std::vector<candidate>& out) {
    out.clear();
    out.reserve(logits.size());
    std::vector<bool> seen;
    if (parameters.repetition_penalty != 1.0) {
        seen.resize(logits.size());
        for (const token_id token : history)
            if (token >= 0 && static_cast<std::size_t>(token) < logits.size())
                seen[static_cast<std::size_t>(token)] = true;
    }
    for (std::size_t i = 0; i < logits.size(); ++i) {
        double score = logits[i];
        if (!seen.empty() && seen[i])
            score = penalised(score, parameters.repetition_penalty);
        if (!std::isnan(score))
            out.push_back({score, static_cast<token_id>(i)});
    }
}

/// Two passes, because the plain loop cannot be vectorised: it would have to carry the index along.
token_id argmax(std::span<const float> logits) noexcept {
    constexpr std::size_t lanes = 16;
    float best_of[lanes];
    std::fill(std::begin(best_of), std::end(best_of), -std::numeric_limits<float>::infinity());
    std::size_t i = 0;
    for (; i + lanes <= logits.size(); i += lanes)
        for (std::size_t lane = 0; lane < lanes; ++lane) // NaN is never greater
            best_of[lane] = logits[i + lane] > best_of[lane] ? logits[i + lane] : best_of[lane];
    for (; i < logits.size(); ++i)
        best_of[0] = logits[i] > best_of[0] ? logits[i] : best_of[0];
    const float best = *std::max_element(std::begin(best_of), std::end(best_of));
    const auto first = std::find(logits.begin(), logits.end(), best);
    return first == logits.end() ? 0 : static_cast<token_id>(first - logits.begin());
}

void keep_top_k(std::vector<candidate>& candidates, std::int32_t top_k) {
    const auto count = static_cast<std::size_t>(top_k);
    if (count == 0 || count >= candidates.size())
        return;
    std::nth_element(candidates.begin(), candidates.begin() + (top_k - 1), candidates.end(), better);
    candidates.resize(count);
    std::sort(candidates.begin(), candidates.end(), lower_id);
}

/// Logits become weights exp((logit - best) / temperature), best 1. A best of +infinity leaves only its equals, because
/// in the limit they hold all the mass; when nothing is above -infinity, the lowest id is left. Weights that underflow
/// to nothing are dropped.
void to_weights(std::vector<candidate>& candidates, double temperature) {
    const double best = std::min_element(candidates.begin(), candidates.end(), better)->score;
    if (best == -std::numeric_limits<double>::infinity())
        candidates.resize(1);
    for (candidate& each : candidates)
        each.score = each.score == best ? 1.0 : std::isinf(best) ? 0.0 : std::exp((each.score - best) / temperature);
    std::erase_if(candidates, [](const candidate& each) { return each.score == 0.0; });
}

double sum(const std::vector<candidate>& candidates) noexcept {
    double total = 0;
    for (const candidate& each : candidates)
        total += each.score;
    return total;
}

/// Keeps the fewest best tokens whose mass reaches `top_p`. Sorts only as far as it must: the nucleus is usually
/// tens of tokens of a vocabulary of 100,000.
void keep_nucleus(std::vector<candidate>& candidates, double top_p) {
    if (top_p >= 1.0)
        return;
    const double wanted = top_p * sum(candidates);
    std::size_t sorted = 0;
    std::size_t kept = 0;
    double mass = 0;
    for (std::size_t block = 64; kept < candidates.size() && (kept == 0 || mass < wanted); ++kept) {
        if (kept == sorted) {
            sorted = std::min(candidates.size(), sorted + block);
            block *= 8;
            const auto at = [&](std::size_t i) { return candidates.begin() + static_cast<std::ptrdiff_t>(i); };
            std::nth_element(at(kept), at(sorted - 1), candidates.end(), better);
            std::sort(at(kept), at(sorted), better);
        }
        mass += candidates[kept].score;
    }
    candidates.resize(kept);
    std::sort(candidates.begin(), candidates.end(), lower_id);
}

/// Inverse of the cumulative distribution in order of ids.
token_id draw(const std::vector<candidate>& candidates, double uniform) noexcept {
    const double target = uniform * sum(candidates);
    double mass = 0;
    for (const candidate& each : candidates) {
        mass += each.score;
        if (mass > target)
            return each.token;
    }
    return candidates.back().token;
}

result<void> check_range(const char* name, double value, double low, bool low_allowed, double high) {
    // Written so that NaN fails.
    if ((low_allowed ? value >= low : value > low) && value <= high)
        return {};
    return fail(errc::invalid_argument, std::string(name) + " is " + std::to_string(value) + "; it must be " +
                                            (low_allowed ? "from " : "above ") + std::to_string(low) + " to " +
                                            std::to_string(high));
}

} // namespace

result<void> check_sampling(const sampling_parameters& parameters) {
    if (auto checked = check_range("temperature", parameters.temperature, 0, true, temperature_max); !checked)
        return checked;
    if (auto checked = check_range("top_p", parameters.top_p, 0, false, 1); !checked)
        return checked;
    if (auto checked = check_range("min_p", parameters.min_p, 0, true, 1); !checked)
        return checked;
    if (parameters.top_k < 0)
        return fail(errc::invalid_argument,
                    "top_k is " + std::to_string(parameters.top_k) + "; it must be 0 (all tokens) or more");
    return check_range("repetition_penalty", parameters.repetition_penalty, 0, false, repetition_penalty_max);
}

token_id sample_token(std::span<const float> logits, const sampling_parameters& parameters, std::int64_t position,
                      std::span<const token_id> history) {
    const bool greedy = parameters.temperature <= 0;
    if (greedy && parameters.repetition_penalty == 1.0)
        return argmax(logits);
    // Kept between calls, so that a token does not cost an allocation of the vocabulary's size.
    thread_local std::vector<candidate> candidates;
    list_candidates(logits, parameters, history, candidates);
    if (candidates.empty())
        return 0;
    if (greedy)
        return std::min_element(candidates.begin(), candidates.end(), better)->token;
    keep_top_k(candidates, parameters.top_k);
    to_weights(candidates, parameters.temperature);
    keep_nucleus(candidates, parameters.top_p);
    std::erase_if(candidates, [&](const candidate& each) { return each.score < parameters.min_p; });
    return draw(candidates, uniform_at(parameters.seed, static_cast<std::uint64_t>(position)));
}

} // namespace moira
