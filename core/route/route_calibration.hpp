#pragma once

#include "core/route/route_observation.hpp"

#include <array>
#include <cstdint>
#include <vector>

namespace moira {

/// How good one source was over everything observed. Ratios are 0 before the first row.
struct route_quality {
    std::uint64_t rows = 0;   ///< (row, layer) pairs
    std::uint64_t chosen = 0; ///< experts that these chose
    /// matches[r]: how often the prediction of rank r was among the chosen.
    std::array<std::uint64_t, route_ids_max> matches{};

    /// Share of the chosen experts that were among the first `k` predicted.
    double recall_at(std::size_t k) const noexcept;
    /// Share of the first `k` predicted that were chosen.
    double precision_at(std::size_t k) const noexcept;
};

/// Learns online how much a prediction is worth: for every (layer, rank) of a source the probability that the expert
/// predicted there is really chosen, and recall and precision of each source. Plain state, one thread.
class route_calibration {
public:
    /// `layers` of the model, `ranks` predicted per layer (at most route_ids_max).
    route_calibration(std::int32_t layers, std::int32_t ranks);

    /// Ignores what names a layer or a rank that does not exist.
    void observe(const route_observation& seen);

    /// Probability that the prediction of `source` at `rank` of `layer` is chosen; a half before anything was seen.
    /// Follows the last few thousand rows. Precondition: both exist.
    double probability(route_source source, std::int32_t layer, std::int32_t rank) const noexcept;

    const route_quality& quality(route_source source) const noexcept {
        return quality_[static_cast<std::size_t>(source)];
    }
    std::int32_t layers() const noexcept { return layers_; }
    std::int32_t ranks() const noexcept { return ranks_; }

private:
    struct tally {
        float hits = 0, tries = 0;
    };

    std::size_t index(route_source source, std::int32_t layer, std::int32_t rank) const noexcept;
    void observe_source(route_source source, const route_observation& seen);

    std::int32_t layers_, ranks_;
    std::vector<tally> tallies_; // [sources, layers, ranks]
    std::array<route_quality, route_sources> quality_;
};

} // namespace moira
