#include "tools/moira/flop_probe.hpp"

#include <immintrin.h>

namespace moira {

namespace {

/// As many as a GEMM tile of 6 rows by 4 vectors keeps; 32 registers hold them and the operands.
constexpr int sums_count = 24;
constexpr std::uint64_t flop_per_round = sums_count * 16 * 2;

float multiply_add(std::uint64_t rounds) {
    __m512 sums[sums_count];
    for (auto& sum : sums)
        sum = _mm512_setzero_ps();
    const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
    for (std::uint64_t i = 0; i < rounds; ++i)
        for (auto& sum : sums)
            sum = _mm512_fmadd_ps(a, b, sum);
    __m512 all = _mm512_setzero_ps();
    for (const auto& sum : sums)
        all = _mm512_add_ps(all, sum);
    return _mm512_cvtss_f32(all);
}

} // namespace

flop_kernels flop_kernels_avx512() noexcept {
    return {&multiply_add, nullptr, flop_per_round, 0};
}

} // namespace moira
