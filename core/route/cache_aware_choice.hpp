#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace moira {

/// How far a token may be sent to experts that are in memory in place of those that its router prefers.
struct cache_aware_rule {
    std::size_t top_k = 1;
    std::size_t candidates = 1;   ///< experts per row that the router ranked, at least top_k
    std::size_t sacred_ranks = 1; ///< of the best choices: never replaced, at least one
    double window = 0.0;          ///< a substitute's score is at least 1 - window of the score that it stands in for
    bool normalize = false;       ///< as the architecture weighs: divide by the sum of the chosen scores
    float scale = 1.0F;           ///< and multiply by this
};

/// What the router said about some rows: [rows, candidates], in falling order of choice. Scores as they are before they
/// are normalised and scaled.
struct ranked_experts {
    std::span<const std::int32_t> ids;
    std::span<const float> scores;
};

/// Chooses the experts of all rows of a step. Sacred ranks of all rows come first: what they want is loaded anyway and
/// counts as present from then on. A lower rank that is absent goes to the best ranked candidate that is present, not
/// chosen by this row and inside the window; where there is none the router's choice stays, and is loaded. A choice may
/// have had a bias, so that an expert behind has a better score: it is inside every window.
///
/// `present`: [experts], 1 for experts in memory; grows by what is loaded. `ids`, `weights`: [rows, top_k], filled.
/// Depends on the cache and on the rows that share the step: a run need not repeat another one. Ids must be below
/// present.size(). Returns how many were replaced.
std::size_t choose_cache_aware(const cache_aware_rule& rule, const ranked_experts& ranked,
                               std::span<std::uint8_t> present, std::span<std::int32_t> ids, std::span<float> weights);

} // namespace moira
