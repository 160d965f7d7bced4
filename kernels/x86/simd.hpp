// The vector unit that this translation unit is compiled for, and what is the same on all of them.
#pragma once

#if defined(__AVX512F__)
#include "kernels/x86/simd_avx512.hpp"
#else
#include "kernels/x86/simd_avx2.hpp"
#endif

#include <initializer_list>

namespace moira {

// e^x within 2 ulp for -87.33 <= x <= 88.37. Below, where the result would be subnormal, 0; above, e^88.37 = 2.4e38.
// x = n ln 2 + r with |r| <= ln 2 / 2, and e^r by its Taylor series up to r^7 / 7!, which leaves less than 6e-9.
inline simd_float simd_exponential(simd_float x) {
    const simd_float lowest = simd_set(-87.33654f); // ln(2^-126), rounded up
    const simd_float clamped = simd_maximum(lowest, simd_minimum(simd_set(88.37626f), x));
    const simd_float n = simd_round(simd_multiply(clamped, simd_set(1.44269504f)));
    // ln 2 in two parts; the first has so few bits that n times it is exact.
    simd_float r = simd_multiply_add(n, simd_set(-0.693359375f), clamped);
    r = simd_multiply_add(n, simd_set(2.12194440e-4f), r);
    simd_float series = simd_set(1.0f / 5040.0f);
    for (const float coefficient : {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f})
        series = simd_multiply_add(series, r, simd_set(coefficient));
    return simd_zero_below(simd_scale(series, n), x, lowest);
}

// x / (1 + e^(-slope x)): SiLU for slope 1.
inline simd_float simd_sigmoid_times(simd_float x, simd_float slope) {
    const simd_float negative = simd_subtract(simd_zero(), simd_multiply(slope, x));
    return simd_divide(x, simd_add(simd_set(1.0f), simd_exponential(negative)));
}

// Calls function(offset, count) for `total` lanes in vectors: count is simd_lanes but for a shorter last one.
template <class Function>
inline void for_vectors(uint32_t total, const Function& function) {
    uint32_t offset = 0;
    for (; offset + simd_lanes <= total; offset += simd_lanes)
        function(offset, simd_lanes);
    if (offset < total)
        function(offset, total - offset);
}

inline simd_float simd_load_some(const float* address, uint32_t count) {
    return count == simd_lanes ? simd_load(address) : simd_load_part(address, count);
}
inline void simd_store_some(float* address, simd_float value, uint32_t count) {
    if (count == simd_lanes)
        simd_store(address, value);
    else
        simd_store_part(address, value, count);
}

} // namespace moira
