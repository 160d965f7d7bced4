#pragma once

#include "tools/moira/memory_probe_kernels.hpp"

#include <immintrin.h>

namespace moira {

// The read loops of every vector unit. `unit` has the type `vector` and static functions zero, load, add and store; it
// belongs to one file with its own compiler flags, so that no two files share an instance.

template <class unit>
std::uint64_t sum_of_lanes(typename unit::vector value) {
    alignas(64) std::uint64_t lanes[sizeof(typename unit::vector) / 8];
    unit::store(lanes, value);
    std::uint64_t sum = 0;
    for (const auto lane : lanes)
        sum += lane;
    return sum;
}

/// `streams` parts of the range are read side by side, `unroll` vectors of each at a time; `ahead` bytes are asked for
/// in advance (0: the processor's own prefetchers alone), into all caches or past them.
template <class unit, int streams, int unroll, int ahead, _mm_hint hint>
std::uint64_t read_range(const unsigned char* begin, std::uint64_t bytes) {
    using vector = typename unit::vector;
    constexpr int line_bytes = 64, vector_bytes = sizeof(vector), step_bytes = unroll * vector_bytes;
    const std::uint64_t part_bytes = bytes / streams;
    vector sums[streams][unroll];
    for (auto& stream : sums)
        for (auto& sum : stream)
            sum = unit::zero();
    for (std::uint64_t at = 0; at < part_bytes; at += step_bytes)
        for (int stream = 0; stream < streams; ++stream) {
            const unsigned char* from = begin + static_cast<std::uint64_t>(stream) * part_bytes + at;
            if constexpr (ahead > 0)
                for (int line = 0; line < step_bytes; line += line_bytes)
                    _mm_prefetch(reinterpret_cast<const char*>(from) + ahead + line, hint);
            for (int i = 0; i < unroll; ++i)
                sums[stream][i] = unit::add(sums[stream][i], unit::load(from + i * vector_bytes));
        }
    std::uint64_t sum = 0;
    for (const auto& stream : sums)
        for (const auto& part : stream)
            sum += sum_of_lanes<unit>(part);
    return sum;
}

} // namespace moira
