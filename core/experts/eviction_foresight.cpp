#include "core/experts/eviction_families.hpp"
#include "core/experts/expert_affinity.hpp"
#include "core/experts/expert_history.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace moira {
namespace {

constexpr std::int32_t no_expert = -1;

/// Visits of a layer after which a use counts half: for the next use, and for the uses behind it. Chosen on
/// gpt-oss-20b's trace, where 8 to 16 and 12 to 48 are within 0.4 points of hit rate.
constexpr float next_half_life = 8, later_half_life = 24;

/// What a use that is one token later is worth: exp(-1). exp(-2) loses up to 0.6 points of hit rate, exp(-1/4) up to
/// 0.8.
constexpr float token_discount = 0.3678794412F;

/// Log odds beyond which an estimate is as good as certain.
constexpr float log_odds_max = 8;

/// The logistic function as a table: every eviction asks it for all slots.
class chance_table {
public:
    chance_table() {
        for (std::size_t i = 0; i < values_.size(); ++i)
            values_[i] = 1.0F / (1.0F + std::exp(-(static_cast<float>(i) + 0.5F) / steps_per_unit + log_odds_max));
    }
    float of(float log_odds) const noexcept {
        const float place = (std::clamp(log_odds, -log_odds_max, log_odds_max) + log_odds_max) * steps_per_unit;
        return values_[std::min(static_cast<std::size_t>(place), values_.size() - 1)];
    }

private:
    static constexpr float steps_per_unit = 64;
    std::array<float, static_cast<std::size_t>(2 * log_odds_max * steps_per_unit)> values_{};
};

/// Ranks by the expected worth of keeping: the sum over the ways to the next use of chance x exp(-way / token).
///   p: chance that the layer's next visit, d layers away, uses the expert; from how often it was used lately, from
///      the experts of this token and the one before (expert_affinity), and from hints;
///   r: chance of each visit behind it, from how often it was used in a longer past;
///   worth = exp(-d / layers) x (p + (1 - p) x c r / (1 - c (1 - r))), c = exp(-1).
class foresight_policy final : public eviction_policy {
public:
    explicit foresight_policy(const eviction_dimensions& dimensions)
        : experts_(static_cast<std::size_t>(dimensions.experts)), next_(dimensions, next_half_life),
          later_(dimensions, later_half_life), affinity_(dimensions),
          prior_(static_cast<std::size_t>(dimensions.layers) * experts_), behind_(prior_.size()),
          hinted_(prior_.size()), nearness_(static_cast<std::size_t>(dimensions.layers)) {
        for (std::int32_t layer = 0; layer < dimensions.layers; ++layer)
            refresh_layer(layer);
    }

    std::string_view name() const noexcept override { return "foresight"; }
    bool works_below_floor() const noexcept override { return true; }

    void reset(slot_index slots) override {
        slots_.assign(static_cast<std::size_t>(slots), no_expert);
        worth_.assign(static_cast<std::size_t>(slots), 0.0F);
        ranked_ = false;
    }

    void wave_begins(const eviction_wave& wave) override {
        if (!wave.continues) {
            // The prior of before this visit: what it uses must not tell the model the answer.
            affinity_.visit_begins(wave.layer, {prior_.data() + index_of({wave.layer, 0}), experts_});
            forget_hints(wave.layer);
        }
        next_.wave_begins(wave);
        later_.wave_begins(wave);
        counted_.clear();
        for (const std::int32_t expert : wave.experts)
            if (!std::binary_search(wave.prompt_only.begin(), wave.prompt_only.end(), expert))
                counted_.push_back(expert);
        affinity_.used(counted_);
        if (wave.continues) {
            // A few experts of a layer that was ranked just now: the order of the others stays as it is.
            for (const std::int32_t expert : counted_)
                refresh({wave.layer, expert});
            return;
        }
        refresh_layer(wave.layer);
        ranked_ = false;
    }

    void inserted(slot_index slot, expert_id expert) override {
        slots_[static_cast<std::size_t>(slot)] = static_cast<std::int32_t>(index_of(expert));
        worth_[static_cast<std::size_t>(slot)] = ranked_ ? worth(index_of(expert)) : 0.0F;
    }

    void touched(slot_index) override {}
    void removed(slot_index slot) override { slots_[static_cast<std::size_t>(slot)] = no_expert; }

    void hinted(std::int32_t layer, std::span<const expert_hint> experts) override {
        forget_hints(layer);
        for (const expert_hint& hint : experts)
            hinted_[index_of({layer, hint.expert})] = std::clamp(hint.probability, 0.0F, 1.0F);
        ranked_ = false;
    }

    void primed(expert_id expert, float use_rate) override {
        next_.prime(expert, use_rate);
        later_.prime(expert, use_rate);
        refresh_layer(expert.layer);
        ranked_ = false;
    }

    std::optional<slot_index> victim(expert_id, std::span<const bool> evictable) override {
        if (!ranked_)
            rank();
        std::optional<slot_index> least;
        float least_worth = 0;
        for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
            if (!evictable[slot] || slots_[slot] == no_expert || (least && worth_[slot] >= least_worth))
                continue;
            least = static_cast<slot_index>(slot);
            least_worth = worth_[slot];
        }
        return least;
    }

private:
    std::size_t index_of(expert_id expert) const noexcept {
        return static_cast<std::size_t>(expert.layer) * experts_ + static_cast<std::size_t>(expert.expert);
    }

    void forget_hints(std::int32_t layer) {
        const auto first = hinted_.begin() + static_cast<std::ptrdiff_t>(index_of({layer, 0}));
        std::fill(first, first + static_cast<std::ptrdiff_t>(experts_), 0.0F);
    }

    /// What changes with visits of its layer only.
    void refresh(expert_id expert) {
        const float soon = std::clamp(next_.use_rate(expert), 0.002F, 0.998F), rate = later_.use_rate(expert);
        prior_[index_of(expert)] = std::log(soon / (1 - soon));
        behind_[index_of(expert)] = token_discount * rate / (1 - token_discount * (1 - rate));
    }

    void refresh_layer(std::int32_t layer) {
        for (std::int32_t expert = 0; static_cast<std::size_t>(expert) < experts_; ++expert)
            refresh({layer, expert});
    }

    float worth(std::size_t index) const noexcept {
        const auto layer = static_cast<std::int32_t>(index / experts_);
        const expert_id expert{layer, static_cast<std::int32_t>(index % experts_)};
        const float chance = std::max(chances_.of(prior_[index] + affinity_.log_odds(expert)), hinted_[index]);
        return nearness_[static_cast<std::size_t>(layer)] * (chance + (1 - chance) * behind_[index]);
    }

    void rank() {
        for (std::size_t layer = 0; layer < nearness_.size(); ++layer)
            nearness_[layer] = std::exp(-static_cast<float>(next_.layers_until(static_cast<std::int32_t>(layer))) /
                                        static_cast<float>(nearness_.size()));
        for (std::size_t slot = 0; slot < slots_.size(); ++slot)
            if (slots_[slot] != no_expert)
                worth_[slot] = worth(static_cast<std::size_t>(slots_[slot]));
        ranked_ = true;
    }

    std::size_t experts_;
    chance_table chances_;
    expert_history next_, later_;
    expert_affinity affinity_;
    // [layers, experts]
    std::vector<float> prior_;  // log odds of p without the affinity
    std::vector<float> behind_; // worth of the visits behind the next
    std::vector<float> hinted_; // p is at least this

    std::vector<float> nearness_;       // [layers]: exp(-layers until its next visit / layers), as of rank()
    std::vector<std::int32_t> slots_;   // layer x experts + expert, or no_expert
    std::vector<float> worth_;          // of the slot; valid when ranked_
    std::vector<std::int32_t> counted_; // for wave_begins()
    bool ranked_ = false;
};

} // namespace

std::unique_ptr<eviction_policy> make_foresight_policy(const eviction_dimensions& dimensions) {
    return std::make_unique<foresight_policy>(dimensions);
}

} // namespace moira
