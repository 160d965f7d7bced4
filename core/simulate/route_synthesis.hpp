#pragma once

#include "core/base/error.hpp"
#include "core/route/route_trace.hpp"

#include <cstdint>

namespace moira {

struct route_synthesis {
    std::uint32_t layers = 0, experts = 0, top_k = 0;
    std::uint32_t sequences = 1, tokens = 0; ///< tokens in all, shared out among the sequences
    std::uint64_t seed = 1;
};

/// Experts drawn evenly and independently: the worst case for any cache. Weights are even too. The same seed gives the
/// same recording on every machine. Errors: invalid_argument (sizes beyond the format's limits, more than 2^28 choices,
/// fewer tokens than sequences).
result<route_trace> make_uniform_routes(const route_synthesis& wanted);

/// Routing of other dimensions with the popularity and the habits of a real one. Layers are spread over the source's
/// layers. Each expert of the source stands for a group of experts; a token chooses from the groups that the source's
/// token chose, in turn by rank, and inside a group the members that it chose last time as often as tokens of that
/// layer of the source repeat themselves, else members by falling popularity. Weights: the source's by rank, brought to
/// a sum of 1. Errors: as above; invalid_argument (fewer tokens in `source` than wanted).
result<route_trace> make_routes_like(const route_trace& source, const route_synthesis& wanted);

} // namespace moira
