#pragma once

#include <cstdint>

namespace moira {

/// How many steps asked the host nothing between their layers, and how: op by op, into a graph, or by replaying one.
struct resident_step_counts {
    std::uint64_t plain = 0, recorded = 0, replayed = 0;
    std::uint64_t graphs_dropped = 0; ///< for others
    std::uint64_t all() const noexcept { return plain + recorded + replayed; }
};

} // namespace moira
