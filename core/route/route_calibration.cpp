#include "core/route/route_calibration.hpp"

#include <algorithm>

namespace moira {
namespace {

/// Before anything was seen a prediction is as good as a coin; four rows outweigh that.
constexpr float prior_hits = 1, prior_tries = 2;

/// Both counts are halved here, so that older rows fade: some ten answers of a hundred tokens.
constexpr float tries_max = 2048;

} // namespace

double route_quality::recall_at(std::size_t k) const noexcept {
    std::uint64_t found = 0;
    for (std::size_t rank = 0; rank < std::min(k, matches.size()); ++rank)
        found += matches[rank];
    return chosen == 0 ? 0.0 : static_cast<double>(found) / static_cast<double>(chosen);
}

double route_quality::precision_at(std::size_t k) const noexcept {
    const std::size_t counted = std::min(k, matches.size());
    std::uint64_t found = 0;
    for (std::size_t rank = 0; rank < counted; ++rank)
        found += matches[rank];
    const std::uint64_t predicted = rows * counted;
    return predicted == 0 ? 0.0 : static_cast<double>(found) / static_cast<double>(predicted);
}

route_calibration::route_calibration(std::int32_t layers, std::int32_t ranks)
    : layers_(std::max(layers, 0)), ranks_(std::clamp(ranks, 0, static_cast<std::int32_t>(route_ids_max))),
      tallies_(route_sources * static_cast<std::size_t>(layers_) * static_cast<std::size_t>(ranks_)) {}

std::size_t route_calibration::index(route_source source, std::int32_t layer, std::int32_t rank) const noexcept {
    return (static_cast<std::size_t>(source) * static_cast<std::size_t>(layers_) + static_cast<std::size_t>(layer)) *
               static_cast<std::size_t>(ranks_) +
           static_cast<std::size_t>(rank);
}

void route_calibration::observe(const route_observation& seen) {
    if (seen.layer >= layers_ || seen.top_k > route_ids_max ||
        seen.predicted_ranks() > static_cast<std::size_t>(ranks_))
        return;
    for (const auto source : route_source_list)
        if (seen.has(source))
            observe_source(source, seen);
}

void route_calibration::observe_source(route_source source, const route_observation& seen) {
    route_quality& quality = quality_[static_cast<std::size_t>(source)];
    ++quality.rows;
    quality.chosen += seen.ran();
    const auto& predicted = seen.predicted[static_cast<std::size_t>(source)];
    const auto chosen_end = seen.chosen.begin() + static_cast<std::ptrdiff_t>(seen.ran());
    for (std::size_t rank = 0; rank < seen.predicted_ranks(); ++rank) {
        const bool right = std::find(seen.chosen.begin(), chosen_end, predicted[rank]) != chosen_end;
        quality.matches[rank] += right;
        tally& counted = tallies_[index(source, seen.layer, static_cast<std::int32_t>(rank))];
        counted.hits += right ? 1.0F : 0.0F;
        counted.tries += 1.0F;
        if (counted.tries >= tries_max) {
            counted.hits /= 2;
            counted.tries /= 2;
        }
    }
}

double route_calibration::probability(route_source source, std::int32_t layer, std::int32_t rank) const noexcept {
    const tally& counted = tallies_[index(source, layer, rank)];
    return static_cast<double>(counted.hits + prior_hits) / static_cast<double>(counted.tries + prior_tries);
}

} // namespace moira
