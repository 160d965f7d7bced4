#pragma once

#include <cstdint>
#include <optional>

namespace moira {

/// What happened to the experts of one layer since the start; drafted rows and prediction modules included.
struct layer_statistics {
    std::int32_t layer = 0;
    std::uint64_t hits = 0, demand_loads = 0;
    std::uint64_t loads = 0;           ///< begun, on demand or ahead of need: each expert that is brought counts once
    std::uint64_t prefetch_loads = 0;  ///< begun ahead of need
    std::uint64_t prefetch_useful = 0; ///< of them: asked for before they left
    std::uint64_t prefetch_wasted = 0; ///< of them: left, or failed, without having been asked for
    std::uint64_t prefetch_wasted_bytes = 0;
    std::uint64_t hinted_misses = 0; ///< experts that visits with a hint asked for and that were absent
    std::uint64_t hinted_found = 0;  ///< of them: the hint had named them
    double stall_s = 0;              ///< time that acquirers waited for this layer's loads
    /// Loads beyond Belady's optimum, which may give a layer less memory than it had: then below zero. Of a store: over
    /// the visits of expert_regret, not since the start. None: nobody reckoned.
    std::optional<std::int64_t> regret_loads = {};

    std::optional<double> hit_rate() const noexcept; ///< none: nobody asked
    std::optional<double> recall() const noexcept;   ///< of hints among what was absent; none: no such visit

    /// What happened after `earlier`, which is of the same layer.
    layer_statistics since(const layer_statistics& earlier) const noexcept;
};

} // namespace moira
