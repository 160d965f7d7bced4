#include "core/route/trace_pruning.hpp"

#include "core/route/gate_mass.hpp"

#include <algorithm>
#include <functional>

namespace moira {

bool has_gate_weights(const route_trace& trace) noexcept {
    const std::size_t top_k = trace.top_k;
    for (const auto& sequence : trace.sequences)
        for (std::size_t row = 0; top_k > 0 && (row + 1) * top_k <= sequence.weights.size(); ++row) {
            const auto weights = std::span(sequence.weights).subspan(row * top_k, top_k);
            if (std::adjacent_find(weights.begin(), weights.end(), std::not_equal_to<>()) != weights.end())
                return true;
        }
    return false;
}

pruning_counts prune_trace(route_trace& trace, double mass) {
    pruning_counts counted;
    const std::size_t top_k = trace.top_k;
    if (top_k == 0)
        return counted;
    std::vector<std::int32_t> kept(top_k);
    for (auto& sequence : trace.sequences) {
        const auto rows = std::min(sequence.ids.size(), sequence.weights.size()) / top_k;
        for (std::size_t row = 0; row < rows; ++row) {
            const auto ids = std::span(sequence.ids).subspan(row * top_k, top_k);
            const auto weights = std::span(sequence.weights).subspan(row * top_k, top_k);
            std::copy(ids.begin(), ids.end(), kept.begin());
            counted.routings += top_k;
            counted.left_out += keep_gate_mass({top_k, mass, false}, kept, weights);
            const auto heaviest = std::max_element(weights.begin(), weights.end()) - weights.begin();
            const auto again = ids[static_cast<std::size_t>(heaviest)];
            for (std::size_t rank = 0; rank < top_k; ++rank)
                if (kept[rank] == no_expert)
                    ids[rank] = again;
        }
    }
    return counted;
}

} // namespace moira
