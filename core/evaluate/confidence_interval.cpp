#include "core/evaluate/confidence_interval.hpp"

#include <algorithm>
#include <cmath>

namespace moira {

namespace {

/// 0.975 quantile of the standard normal distribution.
constexpr double normal_quantile = 1.959963984540054;

/// The 2.5 % tails then hold 50 values each, which moves the ends by a few percent of the interval's width.
constexpr std::size_t resamplings = 2'000;

/// splitmix64: the next state's mix. A generator of the standard library would do, its distributions would not give the
/// same draws everywhere.
std::uint64_t next_random(std::uint64_t& state) noexcept {
    state += 0x9E3779B97F4A7C15U;
    std::uint64_t mixed = state;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9U;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBU;
    return mixed ^ (mixed >> 31);
}

} // namespace

confidence_interval wilson_interval(std::uint64_t correct, std::uint64_t items) {
    if (items == 0)
        return {0, 1};
    const double n = static_cast<double>(items), share = static_cast<double>(correct) / n;
    const double z2 = normal_quantile * normal_quantile;
    const double centre = (share + z2 / (2 * n)) / (1 + z2 / n);
    const double half = normal_quantile / (1 + z2 / n) * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n));
    return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

void token_blocks::add(const values& token) {
    if (blocks_.empty() || blocks_.back().tokens == block_tokens_) {
        if (blocks_.size() == blocks_max) {
            for (std::size_t pair = 0; pair < blocks_max / 2; ++pair) {
                block merged = blocks_[2 * pair];
                merged.tokens += blocks_[2 * pair + 1].tokens;
                for (std::size_t each = 0; each < quantities; ++each)
                    merged.sums[each] += blocks_[2 * pair + 1].sums[each];
                blocks_[pair] = merged;
            }
            blocks_.resize(blocks_max / 2);
            block_tokens_ *= 2;
        }
        blocks_.emplace_back();
    }
    ++blocks_.back().tokens;
    ++tokens_;
    for (std::size_t each = 0; each < quantities; ++each)
        blocks_.back().sums[each] += token[each];
}

double token_blocks::sum(std::size_t quantity) const noexcept {
    double all = 0;
    for (const auto& each : blocks_)
        all += each.sums[quantity];
    return all;
}

double token_blocks::mean(std::size_t quantity) const noexcept {
    return tokens_ == 0 ? 0 : sum(quantity) / static_cast<double>(tokens_);
}

confidence_interval token_blocks::bootstrap(std::size_t quantity) const {
    if (blocks_.size() < 2)
        return {mean(quantity), mean(quantity)};
    std::vector<double> means(resamplings);
    std::uint64_t state = 1; // any fixed seed: the same text gives the same interval
    for (auto& each : means) {
        double drawn = 0;
        std::uint64_t tokens = 0;
        for (std::size_t draw = 0; draw < blocks_.size(); ++draw) {
            const auto& from = blocks_[next_random(state) % blocks_.size()];
            drawn += from.sums[quantity];
            tokens += from.tokens;
        }
        each = drawn / static_cast<double>(tokens);
    }
    std::sort(means.begin(), means.end());
    constexpr std::size_t tail = resamplings / 40;
    return {means[tail], means[resamplings - 1 - tail]};
}

} // namespace moira
