#pragma once

#include "core/experts/eviction_policy.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// Learns online which experts follow which: for every expert of a layer, how much its use speaks for or against each
/// expert of the layers that are visited a quarter of a token later, half a token, three quarters and one. (All layers
/// instead of every quarter's hit 0.2 points more on gpt-oss-20b's trace, at six times the work.) A logistic model on
/// the one-hot of recent experts; needs no hidden states. State and work per visit are bounded: a visit of very
/// many experts (a prompt, a large batch) says little about any and is passed over.
class expert_affinity {
public:
    explicit expert_affinity(const eviction_dimensions& dimensions);

    /// A visit of `layer` begins; what the visit before chose is learnt. `prior` [experts]: the log odds that each is
    /// used now, in the caller's view without recent experts. used() follows, once or several times.
    void visit_begins(std::int32_t layer, std::span<const float> prior);

    /// The visit uses these too; distinct over a visit.
    void used(std::span<const std::int32_t> experts);

    /// Log odds that recent experts add to those of the next use of `expert`; 0 where they say nothing.
    float log_odds(expert_id expert) const noexcept { return expected_[index_of(expert)]; }

private:
    struct visit {
        std::int32_t layer = -1;
        std::vector<std::int32_t> experts;
        bool too_many = false;
    };

    std::size_t index_of(expert_id expert) const noexcept {
        return static_cast<std::size_t>(expert.layer) * experts_ + static_cast<std::size_t>(expert.expert);
    }
    /// What `source` says about each expert of the layer that is visited distances_[place] later: [experts].
    std::span<float> weights(std::size_t place, expert_id source) noexcept;
    void learn();
    template <class Apply>
    void each_source(std::size_t place_min, const Apply& apply);

    std::size_t layers_, experts_;
    std::vector<std::size_t> distances_; // in visits, rising
    std::vector<float> weights_;         // [distances, layers, experts of the source, experts of the target]
    std::vector<float> expected_;        // [layers, experts]
    std::vector<float> score_;           // [experts]: log odds of the current visit's; for learn()
    std::vector<std::int32_t> follows_;  // [layers]: the layer visited after it last time, -1: none yet
    std::vector<visit> recent_;           // the newest last, at most the longest distance
    visit now_;
    std::uint64_t random_ = 1;
};

} // namespace moira
