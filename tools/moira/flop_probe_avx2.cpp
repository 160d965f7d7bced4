#include "tools/moira/flop_probe.hpp"

#include <immintrin.h>

namespace moira {

namespace {

/// Two multipliers with a latency of 4 to 5 cycles need 10 sums in flight; 16 registers hold 12 and the operands.
constexpr int sums_count = 12;
constexpr std::uint64_t flop_per_round = sums_count * 8 * 2;

float multiply_add(std::uint64_t rounds) {
    __m256 sums[sums_count];
    for (auto& sum : sums)
        sum = _mm256_setzero_ps();
    const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
    for (std::uint64_t i = 0; i < rounds; ++i)
        for (auto& sum : sums)
            sum = _mm256_fmadd_ps(a, b, sum);
    __m256 all = _mm256_setzero_ps();
    for (const auto& sum : sums)
        all = _mm256_add_ps(all, sum);
    return _mm256_cvtss_f32(all);
}

} // namespace

flop_kernels flop_kernels_avx2() noexcept {
    return {&multiply_add, nullptr, flop_per_round, 0};
}

} // namespace moira
