#include "core/experts/layer_counters.hpp"

namespace moira {

layer_counters::layer_counters(std::int32_t layers) : layers_(static_cast<std::size_t>(layers)) {
    for (std::int32_t layer = 0; layer < layers; ++layer)
        at(layer).layer = layer;
}

void layer_counters::visited(expert_id expert, bool resident, bool read_ahead) noexcept {
    auto& layer = at(expert.layer);
    ++(resident ? layer.hits : layer.demand_loads);
    layer.prefetch_useful += read_ahead;
}

void layer_counters::hinted(std::int32_t layer, const hint_counts& now) noexcept {
    at(layer).hinted_misses += now.misses - hints_.misses;
    at(layer).hinted_found += now.absent_chosen - hints_.absent_chosen;
    hints_ = now;
}

std::vector<layer_statistics> layer_counters::shown(const residency_table& table, std::uint64_t disk_bytes) const {
    std::vector<layer_statistics> asked;
    for (const auto& layer : layers_) {
        if (layer.hits + layer.demand_loads + layer.prefetch_loads == 0)
            continue;
        asked.push_back(layer);
        asked.back().prefetch_wasted = table.speculation_unused(layer.layer);
        asked.back().prefetch_wasted_bytes = asked.back().prefetch_wasted * disk_bytes;
    }
    return asked;
}

} // namespace moira
