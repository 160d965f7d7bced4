#include "tools/moira/flop_probe.hpp"

#include <immintrin.h>

namespace moira {

namespace {

constexpr int sums_count = 24; // as in the f32 loop
constexpr std::uint64_t flop_per_round = sums_count * 32 * 2;

float dot_products(std::uint64_t rounds) {
    __m512 sums[sums_count];
    for (auto& sum : sums)
        sum = _mm512_setzero_ps();
    const auto a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f));
    const auto b = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.25f), _mm512_set1_ps(0.25f));
    for (std::uint64_t i = 0; i < rounds; ++i)
        for (auto& sum : sums)
            sum = _mm512_dpbf16_ps(sum, a, b);
    __m512 all = _mm512_setzero_ps();
    for (const auto& sum : sums)
        all = _mm512_add_ps(all, sum);
    return _mm512_cvtss_f32(all);
}

} // namespace

flop_kernels flop_kernels_avx512_bf16() noexcept {
    return {nullptr, &dot_products, 0, flop_per_round};
}

} // namespace moira
