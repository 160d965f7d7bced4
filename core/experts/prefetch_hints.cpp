#include "core/experts/prefetch_hints.hpp"

#include <algorithm>

namespace moira {
namespace {

/// Weight of the newest hint's lead in the average.
constexpr double newest_weight = 0.125;

} // namespace

prefetch_hints::prefetch_hints(std::int32_t experts) : absent_(static_cast<std::size_t>(experts)) {
    waiting_.reserve(absent_.size());
}

void prefetch_hints::drop_waiting() noexcept {
    counts_.cancelled += waiting_.size();
    waiting_.clear();
}

void prefetch_hints::give(std::int32_t layer, std::span<const expert_hint> absent, std::size_t given,
                          std::chrono::steady_clock::time_point now) {
    drop_waiting();
    layer_ = layer;
    given_at_ = now;
    std::fill(absent_.begin(), absent_.end(), false);
    for (const expert_hint& hint : absent)
        absent_[static_cast<std::size_t>(hint.expert)] = true;
    counts_.given += given;
    counts_.absent += absent.size();
    const auto wanted = policy.mode == prefetch_mode::off ? 0 : std::max(policy.loads_per_hint_max, 0);
    const auto kept = absent.first(std::min(absent.size(), static_cast<std::size_t>(wanted)));
    counts_.refused += given - kept.size();
    waiting_.assign(kept.rbegin(), kept.rend());
}

std::optional<expert_hint> prefetch_hints::take() {
    if (waiting_.empty())
        return std::nullopt;
    const expert_hint likeliest = waiting_.back();
    waiting_.pop_back();
    return likeliest;
}

void prefetch_hints::wave_begins(std::int32_t layer, std::chrono::steady_clock::time_point now) {
    drop_waiting();
    if (layer == layer_ && given_at_) {
        const double lead_s = std::chrono::duration<double>(now - *given_at_).count();
        lead_s_ += (lead_s_ > 0 ? newest_weight : 1.0) * (lead_s - lead_s_);
    }
    given_at_.reset();
    if (layer != layer_)
        layer_ = -1; // passed
}

void prefetch_hints::missed(std::int32_t layer, std::int32_t expert) {
    if (layer != layer_)
        return;
    ++counts_.misses;
    counts_.absent_chosen += absent_[static_cast<std::size_t>(expert)];
    absent_[static_cast<std::size_t>(expert)] = false; // the same layer in the next step is another prediction's turn
}

} // namespace moira
