#pragma once

#include "core/base/ids.hpp"
#include "core/experts/miss_curve.hpp"
#include "core/experts/prefetch_hints.hpp"

#include <cstdint>
#include <optional>
#include <vector>

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

/// Counts them, and the curve of loads by budget. Plain state under the store's lock; allocates when it is built.
class layer_counters {
public:
    layer_counters(std::int32_t layers, std::int32_t experts);

    /// A wave asks for an expert that is `resident` or not; `read_ahead`: a hint brought it and nobody had asked yet.
    void visited(expert_id expert, bool resident, bool read_ahead) noexcept;
    void loading_ahead(std::int32_t layer) noexcept { ++at(layer).prefetch_loads; }
    /// An absent expert of the layer was just looked up among the hints, whose counts are `now`.
    void hinted(std::int32_t layer, const hint_counts& now) noexcept;
    void waited(std::int32_t layer, double seconds) noexcept { at(layer).stall_s += seconds; }

    /// Layers that were asked for, in order.
    std::vector<layer_statistics> shown() const;
    const miss_curve& curve() const noexcept { return curve_; }

private:
    layer_statistics& at(std::int32_t layer) noexcept { return layers_[static_cast<std::size_t>(layer)]; }

    std::vector<layer_statistics> layers_;
    hint_counts hints_; // when hinted() was called last
    miss_curve curve_;
};

} // namespace moira
