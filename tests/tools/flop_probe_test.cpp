#include "tools/moira/flop_probe.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("the loops do as many rounds as they are asked for") {
    // Each round adds 0.5 x 0.25 to every lane of every sum; the loops return the first lane of all sums together.
#if defined(__x86_64__)
    const auto features = read_device_facts().cpu_features;
    if ((features & MOIRA_CPU_AVX2_FMA_F16C) != 0)
        CHECK(flop_kernels_avx2().f32(8) == 12.0f * 8 * 0.125f);
    if ((features & MOIRA_CPU_AVX512_F_BW_VL_DQ) != 0)
        CHECK(flop_kernels_avx512().f32(8) == 24.0f * 8 * 0.125f);
    if ((features & MOIRA_CPU_AVX512_BF16) != 0)
        CHECK(flop_kernels_avx512_bf16().bf16(8) == 24.0f * 8 * 2 * 0.125f);
#endif
    CHECK(flop_kernels_scalar().f32(3) == 32 * 1.75f);
}

TEST_CASE("peaks are told for what the processor has") {
    compute_pool pool({2, 0});
    const auto peaks = measure_flop_peaks(pool);
    CHECK(peaks.f32_gflop_s > 0);
    CHECK((peaks.bf16_gflop_s > 0) == ((read_device_facts().cpu_features & MOIRA_CPU_AVX512_BF16) != 0));
}
