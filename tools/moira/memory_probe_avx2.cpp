#include "tools/moira/memory_probe_loops.hpp"

namespace moira {

namespace {

struct avx2 {
    using vector = __m256i;
    static vector zero() { return _mm256_setzero_si256(); }
    static vector load(const unsigned char* address) {
        return _mm256_load_si256(reinterpret_cast<const vector*>(address));
    }
    static vector add(vector a, vector b) { return _mm256_add_epi64(a, b); }
    static void store(std::uint64_t* lanes, vector value) {
        _mm256_store_si256(reinterpret_cast<vector*>(lanes), value);
    }
};

constexpr named_read_kernel kernels[] = {
    {"avx2_4", &read_range<avx2, 1, 4, 0, _MM_HINT_T0>},
    {"avx2_8", &read_range<avx2, 1, 8, 0, _MM_HINT_T0>},
    {"avx2_8_ahead_1k", &read_range<avx2, 1, 8, 1024, _MM_HINT_T0>},
    {"avx2_8_past_caches_4k", &read_range<avx2, 1, 8, 4096, _MM_HINT_NTA>},
    {"avx2_4_streams", &read_range<avx2, 4, 2, 0, _MM_HINT_T0>},
    {"avx2_4_streams_ahead_1k", &read_range<avx2, 4, 2, 1024, _MM_HINT_T0>},
};

} // namespace

read_kernel_list read_kernels_avx2() noexcept {
    return {kernels, sizeof kernels / sizeof kernels[0]};
}

} // namespace moira
