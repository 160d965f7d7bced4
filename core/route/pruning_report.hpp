#pragma once

#include <cstdint>
#include <vector>

namespace moira {

/// What pruning did. A routing is one expert that the router chose for one row of one layer. All experts are of one
/// size, so left_out / routings is the share of a token's routed expert parameters that was neither loaded nor
/// computed.
struct pruning_counts {
    std::uint64_t routings = 0;
    std::uint64_t left_out = 0; ///< by gate mass
    std::uint64_t replaced = 0; ///< by cache-aware routing

    double skipped_share() const noexcept {
        return routings == 0 ? 0.0 : static_cast<double>(left_out) / static_cast<double>(routings);
    }
};

/// Since the start. Layers of multi-token-prediction modules are counted apart: their routings make drafts, not text.
struct pruning_report {
    pruning_counts all, modules;
    std::vector<pruning_counts> layers; ///< by layer of the model; dense ones: 0
};

} // namespace moira
