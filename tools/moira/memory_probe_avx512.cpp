#include "tools/moira/memory_probe_loops.hpp"

namespace moira {

namespace {

struct avx512 {
    using vector = __m512i;
    static vector zero() { return _mm512_setzero_si512(); }
    static vector load(const unsigned char* address) {
        return _mm512_load_si512(reinterpret_cast<const vector*>(address));
    }
    static vector add(vector a, vector b) { return _mm512_add_epi64(a, b); }
    static void store(std::uint64_t* lanes, vector value) {
        _mm512_store_si512(reinterpret_cast<vector*>(lanes), value);
    }
};

constexpr named_read_kernel kernels[] = {
    {"avx512_4", &read_range<avx512, 1, 4, 0, _MM_HINT_T0>},
    {"avx512_8", &read_range<avx512, 1, 8, 0, _MM_HINT_T0>},
    {"avx512_8_ahead_1k", &read_range<avx512, 1, 8, 1024, _MM_HINT_T0>},
    {"avx512_8_past_caches_4k", &read_range<avx512, 1, 8, 4096, _MM_HINT_NTA>},
    {"avx512_4_streams", &read_range<avx512, 4, 2, 0, _MM_HINT_T0>},
    {"avx512_4_streams_ahead_1k", &read_range<avx512, 4, 2, 1024, _MM_HINT_T0>},
};

} // namespace

read_kernel_list read_kernels_avx512() noexcept {
    return {kernels, sizeof kernels / sizeof kernels[0]};
}

} // namespace moira
