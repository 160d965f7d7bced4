#pragma once

#include "core/base/error.hpp"
#include "core/execute/compute_pool.hpp"

#include <cstdint>
#include <string>

namespace moira {

/// How fast all threads of a pool together read memory: the bound of decoding, whose weights come from memory anew in
/// every step. Several read loops run over one buffer; which is fastest differs between processors.
class memory_probe {
public:
    /// Far more than any cache of today holds, so that every pass comes from memory.
    static constexpr std::uint64_t buffer_bytes_default = std::uint64_t{2} << 30;

    /// Each thread's share is a whole number of large pages.
    static constexpr std::uint64_t buffer_granule_bytes = std::uint64_t{2} << 20;

    struct reading {
        double gb_s = 0;    ///< 10^9 bytes per second
        std::string kernel; ///< the loop that was fastest
    };

    /// Allocates and touches the buffer (large pages where the system gives them, as for weights). Takes at most half
    /// of the memory that is available: bytes() says how much it became. `pool` outlives the probe. Errors:
    /// out_of_memory.
    static result<memory_probe> create(compute_pool& pool, std::uint64_t bytes_wanted);

    ~memory_probe();
    memory_probe(memory_probe&& other) noexcept;
    memory_probe& operator=(memory_probe&& other) noexcept;
    memory_probe(const memory_probe&) = delete;
    memory_probe& operator=(const memory_probe&) = delete;

    /// One pass of every loop over the whole buffer; the best of them. No other task may run on the pool.
    reading measure();

    std::uint64_t bytes() const noexcept { return bytes_; }

private:
    memory_probe() = default;

    compute_pool* pool_ = nullptr;
    void* mapping_ = nullptr;
    std::uint64_t mapping_bytes_ = 0;
    unsigned char* begin_ = nullptr;
    std::uint64_t bytes_ = 0;
};

/// Bytes of the buffer for a wish on a machine with `available_bytes` (0: unknown, the wish holds), rounded down to
/// granules; at least one per thread, so that every thread reads.
std::uint64_t probe_buffer_bytes(std::uint64_t bytes_wanted, std::uint64_t available_bytes, std::uint32_t threads);

/// How fast all threads of the pool read what a model keeps in memory, 10^9 bytes per second: the best of some passes
/// over a buffer of `resident_bytes`, so that caches help as far as they will help the model; at most half a GiB, which
/// no cache holds. Errors: out_of_memory.
result<double> probe_memory(compute_pool& pool, std::uint64_t resident_bytes);

} // namespace moira
