#pragma once

#include "core/experts/eviction_policy.hpp"

#include <cstdint>
#include <vector>

namespace moira {

/// How often and how lately each expert was used, counted in visits of its layer. Bounded: a few numbers per expert.
class expert_history {
public:
    /// A use or a visit counts half after `half_life` visits.
    expert_history(const eviction_dimensions& dimensions, float half_life);

    /// Counts the wave's experts; those that only a prompt wants do not count.
    void wave_begins(const eviction_wave& wave);

    /// As if the layer had been visited `half_life` times, with the expert used in this share of them. Before the first
    /// visit only.
    void prime(expert_id expert, float use_rate);

    /// Decayed number of uses.
    float uses(expert_id expert) const noexcept;

    /// Share of the layer's visits that used the expert, in 0 .. 1; recent ones weigh more. Before anything was seen: a
    /// guess that nothing falls below.
    float use_rate(expert_id expert) const noexcept;

    /// The same without a guess: 0 where nothing was seen.
    float seen_rate(expert_id expert) const noexcept;

    /// Visits of the layer that did not use the expert since one did; all of them, if none did.
    std::uint32_t idle_visits(expert_id expert) const noexcept;

    /// Layers from the one visited now until the next visit of `layer`: 1 .. layers.
    std::int32_t layers_until(std::int32_t layer) const noexcept;

    std::int32_t layers() const noexcept { return dimensions_.layers; }

private:
    struct use {
        float count = 0;          // decayed to `at`
        std::uint32_t at = 0;     // visit of the layer
        std::uint32_t latest = 0; // visit that used it; 0: none
    };
    struct visit_count {
        std::uint32_t visits = 0;
        float decayed = 0;
    };

    std::size_t index_of(expert_id expert) const noexcept;
    float decay(std::uint32_t visits) const noexcept;

    eviction_dimensions dimensions_;
    std::vector<float> decay_;        // by visits; the last stands for all beyond
    std::vector<use> uses_;           // [layers, experts]
    std::vector<visit_count> visits_; // [layers]
    std::int32_t layer_ = -1;         // visited now
    float half_life_;
};

} // namespace moira
