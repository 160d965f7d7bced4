#pragma once

#include "core/route/route_trace.hpp"
#include "core/route/split_mix.hpp"

#include <algorithm>
#include <vector>

namespace moira {

struct small_trace_shape {
    std::uint32_t layers = 3, experts = 8, top_k = 2, sequences = 3, tokens = 20;
    std::vector<std::uint16_t> layer_numbers = {}; ///< default: 0, 1, 2, ...
};

/// Routing with popular experts and habits: half of the choices are those of the token before.
inline route_trace small_trace(const small_trace_shape& shape, std::uint64_t seed) {
    route_trace trace{.layers = shape.layers, .experts = shape.experts, .top_k = shape.top_k};
    trace.layer_numbers = shape.layer_numbers;
    for (std::uint32_t layer = 0; trace.layer_numbers.size() < shape.layers; ++layer)
        trace.layer_numbers.push_back(static_cast<std::uint16_t>(layer));
    split_mix random(seed);
    for (std::uint32_t index = 0; index < shape.sequences; ++index) {
        route_sequence sequence;
        sequence.tokens = 1 + static_cast<std::uint32_t>(random.below(2 * shape.tokens - 1));
        std::vector<std::vector<std::uint16_t>> before(shape.layers);
        for (std::uint32_t visit = 0; visit < sequence.tokens * shape.layers; ++visit) {
            auto& latest = before[visit % shape.layers];
            std::vector<std::uint16_t> chosen;
            while (chosen.size() < shape.top_k) {
                const auto popular = std::min(random.below(shape.experts), random.below(shape.experts));
                const auto expert = !latest.empty() && random.below(2) == 0 ? latest[random.below(latest.size())]
                                                                            : static_cast<std::uint16_t>(popular);
                if (std::find(chosen.begin(), chosen.end(), expert) == chosen.end())
                    chosen.push_back(expert);
            }
            latest = chosen;
            sequence.ids.insert(sequence.ids.end(), chosen.begin(), chosen.end());
            sequence.weights.insert(sequence.weights.end(), chosen.size(), 0.5F);
        }
        trace.sequences.push_back(std::move(sequence));
    }
    return trace;
}

} // namespace moira
