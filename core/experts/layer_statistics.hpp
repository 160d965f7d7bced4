#pragma once

#include <cstdint>
#include <optional>

namespace moira {

/// What happened to the experts of one layer since the start; drafted rows and prediction modules included. Regret
/// against the optimum is not here: it needs the future, so it is for recordings.
struct layer_statistics {
    std::int32_t layer = 0;
    std::uint64_t hits = 0, demand_loads = 0;
    std::uint64_t prefetch_loads = 0;  ///< begun ahead of need
    std::uint64_t prefetch_useful = 0; ///< of them: asked for before they left
    std::uint64_t hinted_misses = 0;   ///< experts that visits with a hint asked for and that were absent
    std::uint64_t hinted_found = 0;    ///< of them: the hint had named them
    double stall_s = 0;                ///< time that acquirers waited for this layer's loads

    std::optional<double> hit_rate() const noexcept; ///< none: nobody asked
    std::optional<double> recall() const noexcept;   ///< of hints among what was absent; none: no such visit
    /// Read ahead and not asked for (yet), with `disk_bytes` per expert.
    std::uint64_t unused_bytes(std::uint64_t disk_bytes) const noexcept;
};

} // namespace moira
