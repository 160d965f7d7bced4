#include "core/speculate/source_choice.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace moira {

namespace {

// About as many steps as the newest ones weigh together.
constexpr double steps_remembered = 64;

} // namespace

bool draft_trial::use() noexcept {
    ++opportunities_;
    switch (state_) {
    case state::trying:
        return (opportunities_ - 1) % limits_.trial_share == 0;
    case state::adopted:
        return opportunities_ % limits_.control_share != 0;
    case state::pausing:
        break;
    }
    if (opportunities_ <= pause_)
        return false;
    state_ = state::trying;
    opportunities_ = 1;
    return true;
}

void draft_trial::note(double tokens, double cost, double cost_without) noexcept {
    if (!open() || !(cost > 0) || !(cost_without > 0) || !std::isfinite(cost) || !std::isfinite(cost_without))
        return;
    tokens_ += tokens;
    cost_ += cost;
    cost_without_ += cost_without;
    if (tokens_ < limits_.tokens_trial)
        return;
    const bool paid = cost_without_ > cost_ * gain_min;
    if (paid)
        pause_ = limits_.pause_min;
    else if (state_ == state::trying)
        pause_ = std::min(2 * pause_, limits_.pause_max);
    if (!paid || state_ == state::trying)
        opportunities_ = 0;
    state_ = paid ? state::adopted : state::pausing;
    tokens_ = cost_ = cost_without_ = 0;
}

std::size_t plain_cost::bucket(std::int32_t sequences) noexcept {
    const auto width = static_cast<std::size_t>(std::bit_width(static_cast<std::uint32_t>(std::max(sequences, 1))));
    return std::min(width, buckets) - 1;
}

void plain_cost::note(std::int32_t sequences, double tokens, double cost) noexcept {
    if (!(tokens > 0) || !(cost > 0) || !std::isfinite(cost))
        return;
    double& known = per_token_[bucket(sequences)];
    known = known == 0 ? cost / tokens : known + (cost / tokens - known) / steps_remembered;
}

void source_choice::note_step(std::int32_t sequences, double tokens, double cost, bool ngram, bool model) noexcept {
    if (!ngram && !model) {
        plain_.note(sequences, tokens, cost);
        plain_tokens_ += std::isfinite(tokens) ? std::max(tokens, 0.0) : 0.0;
        return;
    }
    // Where drafts leave no plain step to compare with, the trial ends as one that did not pay: then there are some.
    const double known = plain_.per_token(sequences);
    const double without = known > 0 ? tokens * known : cost;
    if (ngram)
        ngram_.note(tokens, cost, without);
    if (model)
        model_.note(tokens, cost, without);
}

} // namespace moira
