#include "core/speculate/draft_length.hpp"

#include <algorithm>
#include <cmath>

namespace moira {

namespace {

// About as many tests, and steps, as the newest ones weigh together: long enough to average, short enough to follow a
// text that changes.
constexpr double tests_remembered = 32;
constexpr double steps_remembered = 64;

// Below this spread (in rows squared) a line through the measured steps would be noise.
constexpr double spread_min = 0.004;

/// The most promising next row of all sequences; the number of candidates when there is none.
std::size_t best_row(std::span<const draft_candidate> candidates, std::span<const std::size_t> lengths,
                     std::span<const double> chances) {
    std::size_t best = candidates.size();
    for (std::size_t i = 0; i < candidates.size(); ++i)
        if (lengths[i] < candidates[i].length_max && (best == candidates.size() || chances[i] > chances[best]))
            best = i;
    return best;
}

} // namespace

void acceptance_estimate::note(std::size_t drafted, std::size_t accepted) noexcept {
    accepted = std::min(accepted, drafted);
    // A token behind the first wrong one was not tested.
    const auto tested = std::min(drafted, accepted + 1);
    const double kept = std::pow(1 - 1 / tests_remembered, static_cast<double>(tested));
    right_ = right_ * kept + static_cast<double>(accepted);
    tested_ = tested_ * kept + static_cast<double>(tested);
}

void step_cost::note(std::int32_t rows, double cost) noexcept {
    if (!(cost > 0) || !std::isfinite(cost))
        return;
    const double kept = 1 - 1 / steps_remembered;
    weight_ = weight_ * kept + 1;
    const double share = 1 / weight_;
    const double rows_off = rows - rows_, cost_off = cost - cost_;
    rows_ += share * rows_off;
    cost_ += share * cost_off;
    rows_spread_ = (1 - share) * (rows_spread_ + share * rows_off * rows_off);
    shared_spread_ = (1 - share) * (shared_spread_ + share * rows_off * cost_off);
    if (rows_spread_ > spread_min)
        slope_ = std::max(0.0, shared_spread_ / rows_spread_);
}

double step_cost::of(std::int32_t rows) const noexcept {
    if (weight_ == 0)
        return 0;
    // A line that leaves the measured rows far behind must not reach zero.
    return std::max(cost_ + slope_ * (rows - rows_), cost_ / 8);
}

void draft_control::note_draft(double cost) noexcept {
    if (cost > 0 && std::isfinite(cost))
        draft_cost_ = draft_cost_ == 0 ? cost : draft_cost_ + (cost - draft_cost_) / steps_remembered;
}

double draft_control::chance_min(std::int32_t rows, std::int32_t tokens) const noexcept {
    const double step = cost_.of(rows);
    // Below this nothing is worth a try, however cheap.
    constexpr double least = 0.05;
    return step > 0 ? std::max(least, (cost_.per_row() * tokens + draft_cost_) / step) : least;
}

std::vector<std::size_t> draft_control::choose(std::span<const draft_candidate> candidates, std::int32_t rows,
                                               std::int32_t tokens, std::int32_t rows_free) {
    std::vector<std::size_t> lengths(candidates.size(), 0);
    std::vector<double> chances;
    for (const auto& each : candidates)
        chances.push_back(std::clamp(each.probability, 0.0, 1.0));
    double expected = tokens, cost = cost_.of(rows);
    const double more = cost_.per_row();
    for (std::int32_t added = 0; added < rows_free; ++added) {
        const auto best = best_row(candidates, lengths, chances);
        // (expected + chance) / (cost + more) > expected / cost, also where nothing was measured yet
        if (best == candidates.size() || !(more == 0 || chances[best] * cost > expected * more))
            break;
        ++lengths[best];
        expected += chances[best];
        cost += more;
        chances[best] *= std::clamp(candidates[best].probability, 0.0, 1.0);
    }
    const bool drafted = std::any_of(lengths.begin(), lengths.end(), [](std::size_t length) { return length > 0; });
    idle_steps_ = drafted || candidates.empty() ? 0 : idle_steps_ + 1;
    if (idle_steps_ <= idle_steps_max || rows_free < 1)
        return lengths;
    const auto best = best_row(candidates, lengths, chances);
    if (best < candidates.size()) {
        lengths[best] = 1;
        idle_steps_ = 0;
    }
    return lengths;
}

} // namespace moira
