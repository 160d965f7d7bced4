#include "tools/moira/memory_probe_kernels.hpp"

#include <immintrin.h>

namespace moira {

namespace {

using vector = __m512i;
constexpr int vector_bytes = sizeof(vector);
constexpr int line_bytes = 64;

vector load(const unsigned char* address) {
    return _mm512_load_si512(reinterpret_cast<const vector*>(address));
}

std::uint64_t sum_of(vector value) {
    alignas(64) std::uint64_t lanes[vector_bytes / 8];
    _mm512_store_si512(reinterpret_cast<vector*>(lanes), value);
    std::uint64_t sum = 0;
    for (const auto lane : lanes)
        sum += lane;
    return sum;
}

/// `streams` parts of the range are read side by side, `unroll` vectors of each at a time; `ahead` bytes are asked for
/// in advance (0: the processor's own prefetchers alone), into all caches or past them.
template <int streams, int unroll, int ahead, _mm_hint hint>
std::uint64_t read_range(const unsigned char* begin, std::uint64_t bytes) {
    constexpr int step_bytes = unroll * vector_bytes;
    const std::uint64_t part_bytes = bytes / streams;
    vector sums[streams][unroll];
    for (auto& stream : sums)
        for (auto& sum : stream)
            sum = _mm512_setzero_si512();
    for (std::uint64_t at = 0; at < part_bytes; at += step_bytes)
        for (int stream = 0; stream < streams; ++stream) {
            const unsigned char* from = begin + static_cast<std::uint64_t>(stream) * part_bytes + at;
            if constexpr (ahead > 0)
                for (int line = 0; line < step_bytes; line += line_bytes)
                    _mm_prefetch(reinterpret_cast<const char*>(from) + ahead + line, hint);
            for (int i = 0; i < unroll; ++i)
                sums[stream][i] = _mm512_add_epi64(sums[stream][i], load(from + i * vector_bytes));
        }
    std::uint64_t sum = 0;
    for (const auto& stream : sums)
        for (const auto& part : stream)
            sum += sum_of(part);
    return sum;
}

constexpr named_read_kernel kernels[] = {
    {"avx512_4", &read_range<1, 4, 0, _MM_HINT_T0>},
    {"avx512_8", &read_range<1, 8, 0, _MM_HINT_T0>},
    {"avx512_8_ahead_1k", &read_range<1, 8, 1024, _MM_HINT_T0>},
    {"avx512_8_past_caches_4k", &read_range<1, 8, 4096, _MM_HINT_NTA>},
    {"avx512_4_streams", &read_range<4, 2, 0, _MM_HINT_T0>},
    {"avx512_4_streams_ahead_1k", &read_range<4, 2, 1024, _MM_HINT_T0>},
};

} // namespace

read_kernel_list read_kernels_avx512() noexcept {
    return {kernels, sizeof kernels / sizeof kernels[0]};
}

} // namespace moira
