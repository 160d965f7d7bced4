#include "core/experts/layer_counters.hpp"

#include <algorithm>

namespace moira {

namespace {

/// A step of a few milliseconds visits hundreds of experts: watching so many layers stays below a thousandth of it.
constexpr std::int32_t layers_watched_max = 16;

std::optional<double> share(std::uint64_t part, std::uint64_t whole) {
    if (whole == 0)
        return std::nullopt;
    return static_cast<double>(part) / static_cast<double>(whole);
}

} // namespace

std::optional<double> layer_statistics::hit_rate() const noexcept {
    return share(hits, hits + demand_loads);
}

std::optional<double> layer_statistics::recall() const noexcept {
    return share(hinted_found, hinted_misses);
}

std::uint64_t layer_statistics::unused_bytes(std::uint64_t disk_bytes) const noexcept {
    return prefetch_loads < prefetch_useful ? 0 : (prefetch_loads - prefetch_useful) * disk_bytes;
}

layer_counters::layer_counters(std::int32_t layers, std::int32_t experts)
    : layers_(static_cast<std::size_t>(layers)),
      curve_(layers, experts, std::max(1, (layers + layers_watched_max - 1) / layers_watched_max)) {
    for (std::int32_t layer = 0; layer < layers; ++layer)
        at(layer).layer = layer;
}

void layer_counters::visited(expert_id expert, bool resident, bool read_ahead) noexcept {
    auto& layer = at(expert.layer);
    ++(resident ? layer.hits : layer.demand_loads);
    layer.prefetch_useful += read_ahead;
    curve_.visit(expert);
}

void layer_counters::hinted(std::int32_t layer, const hint_counts& now) noexcept {
    at(layer).hinted_misses += now.misses - hints_.misses;
    at(layer).hinted_found += now.absent_chosen - hints_.absent_chosen;
    hints_ = now;
}

std::vector<layer_statistics> layer_counters::shown() const {
    std::vector<layer_statistics> asked;
    for (const auto& layer : layers_)
        if (layer.hits + layer.demand_loads + layer.prefetch_loads > 0)
            asked.push_back(layer);
    return asked;
}

} // namespace moira
