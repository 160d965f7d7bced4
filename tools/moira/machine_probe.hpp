#pragma once

#include "core/base/error.hpp"
#include "core/execute/compute_pool.hpp"
#include "core/experts/slab_source.hpp"
#include "core/model/model_shape.hpp"

#include <cstdint>
#include <functional>
#include <string>

namespace moira {

/// How fast experts come from the disk into slots: read and tiled as when the model runs.
struct disk_reading {
    double gb_s = 0;         ///< 10^9 bytes of the checkpoint per second, all threads together
    std::uint64_t bytes = 0; ///< that were read for it
    double elapsed_s = 0;
};

/// Loads experts in a random order that is always the same, with `threads` of them on their way, until each was read
/// once or `seconds_max` have passed; at least one. Errors: those of the source; out_of_memory; cancelled.
result<disk_reading> probe_disk(slab_source& source, const model_shape& shape, std::uint32_t threads,
                                double seconds_max, const std::function<bool()>& interrupted);

/// How fast all threads of the pool read what a model keeps in memory, 10^9 bytes per second: the best of some passes
/// over a buffer of `resident_bytes`, so that caches help as far as they will help the model; at most half a GiB, which
/// no cache holds. Errors: out_of_memory.
result<double> probe_memory(compute_pool& pool, std::uint64_t resident_bytes);

} // namespace moira
