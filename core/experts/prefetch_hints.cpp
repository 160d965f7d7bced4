#include "core/experts/prefetch_hints.hpp"

#include <algorithm>
#include <utility>

namespace moira {
namespace {

/// Weight of the newest hint's lead in the average.
constexpr double newest_weight = 0.125;

/// Promises after which the correction is trusted, and after which old ones count for half: some dozen tokens, and some
/// hundred.
constexpr double promises_min = 32, promises_max = 2048;

/// What remains of the likeliest hint after a newer one: it is forgotten within a few tokens.
constexpr double likeliest_kept = 63.0 / 64;

} // namespace

prefetch_hints::prefetch_hints(std::int32_t experts) {
    judged_.absent.resize(static_cast<std::size_t>(experts));
    judged_.waiting.reserve(judged_.absent.size());
    open_.fill(judged_);
    for (open_hint& hint : open_)
        hint.waiting.reserve(judged_.absent.size());
}

void prefetch_hints::drop_waiting(open_hint& hint) noexcept {
    counts_.cancelled += hint.waiting.size();
    hint.waiting.clear();
}

void prefetch_hints::drop(open_hint& hint) noexcept {
    drop_waiting(hint);
    hint.layer = -1;
}

void prefetch_hints::give(std::int32_t layer, std::span<const expert_hint> absent, std::size_t given,
                          std::chrono::steady_clock::time_point now, std::size_t visits) {
    visits = std::clamp(visits, std::size_t{1}, hint_visits_max);
    open_hint& hint = open_[visits - 1];
    drop_waiting(hint);
    // What an earlier hint for the same visit has loaded already counts as hinted, too.
    if (hint.layer != layer)
        std::fill(hint.absent.begin(), hint.absent.end(), std::uint8_t{0});
    hint.layer = layer;
    hint.visits = visits;
    hint.given_at = now;
    auto& of_distance = promises_[visits - 1];
    for (const expert_hint& named : absent) {
        auto& known = hint.absent[static_cast<std::size_t>(named.expert)];
        if (known != 0)
            continue;
        ++counts_.absent;
        of_distance.promised += static_cast<double>(named.probability);
        known = static_cast<std::uint8_t>(visits);
    }
    if (of_distance.promised > promises_max) {
        of_distance.promised /= 2;
        of_distance.kept /= 2;
    }
    if (!absent.empty()) {
        const double best = static_cast<double>(absent.front().probability) * correction(visits);
        likeliest_ = std::max(best, likeliest_ * likeliest_kept);
    }
    counts_.given += given;
    const auto wanted = policy.mode == prefetch_mode::off ? 0 : std::max(policy.loads_per_hint_max, 0);
    const auto kept = absent.first(std::min(absent.size(), static_cast<std::size_t>(wanted)));
    counts_.refused += given - kept.size();
    hint.waiting.assign(kept.rbegin(), kept.rend());
}

std::optional<prefetch_hints::taken_hint> prefetch_hints::take() {
    for (open_hint& hint : open_) {
        if (hint.waiting.empty())
            continue;
        const expert_hint likeliest = hint.waiting.back();
        hint.waiting.pop_back();
        return taken_hint{hint.layer, likeliest.expert,
                          likeliest.probability * static_cast<float>(correction(hint.visits))};
    }
    return std::nullopt;
}

double prefetch_hints::correction(std::size_t visits) const noexcept {
    const auto& made = promises_[visits - 1];
    return made.promised < promises_min ? 1.0 : std::min(made.kept / made.promised, 1.0);
}

void prefetch_hints::wave_begins(std::int32_t layer, std::chrono::steady_clock::time_point now) {
    // A visit may be cut into several waves, which are all of the visit that was hinted.
    if (layer == visited_ && open_.front().layer != layer)
        return;
    visited_ = layer;
    std::swap(judged_, open_.front());
    drop_waiting(judged_);
    drop(open_.front()); // of the visit before
    std::rotate(open_.begin(), open_.begin() + 1, open_.end());
    if (judged_.layer != layer) {
        judged_.layer = -1; // passed
        return;
    }
    const double lead_s = std::chrono::duration<double>(now - judged_.given_at).count();
    lead_s_ += (lead_s_ > 0 ? newest_weight : 1.0) * (lead_s - lead_s_);
}

void prefetch_hints::missed(std::int32_t layer, std::int32_t expert) {
    if (layer != judged_.layer)
        return;
    ++counts_.misses;
    auto& ahead = judged_.absent[static_cast<std::size_t>(expert)];
    if (ahead == 0)
        return;
    ++counts_.absent_chosen;
    ++promises_[ahead - std::size_t{1}].kept;
    ahead = 0; // the same layer in the next step is another prediction's turn
}

std::size_t prefetch_hints::waiting() const noexcept {
    std::size_t sum = 0;
    for (const open_hint& hint : open_)
        sum += hint.waiting.size();
    return sum;
}

} // namespace moira
