#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace moira {

/// In a list of chosen experts: nobody, this rank was left out.
inline constexpr std::int32_t no_expert = -1;

/// Which of a token's experts may be left out, and what becomes of the others' weights.
struct gate_mass_rule {
    std::size_t top_k = 1;
    double mass = 1.0;        ///< share of the row's routing weight that must stay
    bool renormalize = false; ///< the architecture normalises: the kept weights sum to what all of them did
};

/// Keeps of every row the fewest experts whose weights add up to `mass` of the row's sum, at least one, the heaviest
/// first and of equal ones the better rank. Left out: the id becomes no_expert, the weight 0. What stays keeps its
/// rank, so that outputs are still summed in rank order. A row with a weight that is negative, infinite or NaN stays as
/// it is: nothing can be said about shares of it.
///
/// `ids`, `weights`: [rows, top_k], in falling order of choice. What a row becomes depends on this row alone. Returns
/// how many were left out.
std::size_t keep_gate_mass(const gate_mass_rule& rule, std::span<std::int32_t> ids, std::span<float> weights);

} // namespace moira
