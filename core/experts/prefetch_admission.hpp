#pragma once

#include <cstdint>
#include <string_view>

namespace moira {

/// What becomes of hints: nothing; loads that are expected to pay; every load that finds the link idle.
enum class prefetch_mode : std::uint8_t { off, automatic, always };

/// How hints become loads. Owned by the expert cache actor, applied by the store.
struct prefetch_policy {
    prefetch_mode mode = prefetch_mode::off;

    /// Of one hint, the likeliest first: beyond four a layer, published projects found only more wasted bytes.
    std::int32_t loads_per_hint_max = 4;

    /// Whether a loader thread has a processor that no compute thread needs.
    bool idle_core = false;
};

/// What the store has measured; seconds. Zero where nothing was measured yet.
struct prefetch_figures {
    double stall_per_load_s = 0; ///< that a demand load costs whoever waits
    double lead_s = 0;           ///< from the begin of a read ahead of time, or a hint, to the demand for it
    double read_s = 0;           ///< one read and its packing, by the clock
    double cpu_s = 0;            ///< the same, of one processor
    double stall_share = 0;      ///< of the time of steps: spent waiting for experts
    double contention = 0;       ///< share of speculative reads that a demand load met
    double regret = 0;           ///< share of experts evicted for a hint that were asked for again soon
};

struct prefetch_estimate {
    double gain_s = 0, cost_s = 0;
    bool worthwhile() const noexcept { return gain_s > cost_s; }
};

/// Expected gain and cost of loading an expert ahead of time that is wanted with `probability`. `evicts`: a cold expert
/// leaves for it.
prefetch_estimate estimate_prefetch(double probability, bool evicts, bool idle_core,
                                    const prefetch_figures& measured) noexcept;

} // namespace moira
