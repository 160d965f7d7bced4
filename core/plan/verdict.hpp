#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// What happened in a run, as far as a verdict needs it.
struct verdict_facts {
    double tok_s = 0;                       ///< generated; 0: nobody measured
    double compute_s = 0;                   ///< of whole steps, waiting included
    double stall_s = 0;                     ///< of these: waiting for experts
    std::uint64_t slots = 0, slots_all = 0; ///< experts that fit, and all there are; 0: unknown
    std::uint64_t slot_bytes = 0;
    std::uint64_t demand_loads = 0, hits = 0, evictions = 0;
    std::uint64_t prefetch_loads = 0, prefetch_useful = 0, prefetch_wasted = 0;
    bool bypass = false;                              ///< fewer slots than one token uses
    std::optional<std::uint64_t> slots_to_halve = {}; ///< with so many, half as many loads; none: unknown
    std::optional<double> bandwidth_share = {};       ///< of the memory's, where it was measured
    std::optional<double> regret_share = {};          ///< of the loads: what the optimum would have saved
    std::uint64_t regret_loads = 0;                   ///< of which it is a share
    std::vector<std::string> lossy;
};

/// One sentence for people: what the run waited for, and what would change it. Ends without a full stop and without a
/// line end.
std::string verdict(const verdict_facts& facts);

} // namespace moira
