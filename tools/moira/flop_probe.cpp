#include "tools/moira/flop_probe.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace moira {

namespace {

/// Many sums side by side, for a processor whose vector unit is not known: what the compiler makes of it.
float multiply_add(std::uint64_t rounds) {
    constexpr int sums_count = 32;
    float sums[sums_count] = {};
    for (std::uint64_t i = 0; i < rounds; ++i)
        for (float& sum : sums)
            sum = sum * 0.5f + 1.0f;
    float all = 0;
    for (const float sum : sums)
        all += sum;
    return all;
}

flop_kernels kernels_of_this_machine() {
#ifdef MOIRA_PROBE_X86
    const auto features = read_device_facts().cpu_features;
    auto kernels = (features & MOIRA_CPU_AVX512_F_BW_VL_DQ) != 0 ? flop_kernels_avx512()
                   : (features & MOIRA_CPU_AVX2_FMA_F16C) != 0   ? flop_kernels_avx2()
                                                                 : flop_kernels_scalar();
    if ((features & MOIRA_CPU_AVX512_BF16) != 0) {
        const auto wide = flop_kernels_avx512_bf16();
        kernels.bf16 = wide.bf16;
        kernels.bf16_per_round = wide.bf16_per_round;
    }
    return kernels;
#else
    return flop_kernels_scalar();
#endif
}

struct flop_pass {
    flop_kernel run = nullptr;
    std::uint64_t rounds = 0;
    std::atomic<std::uint32_t> members{0};
    std::atomic<float> checksum{0};
};

void run_part(void* argument, const moira_team_member* member) {
    auto& pass = *static_cast<flop_pass*>(argument);
    pass.checksum = pass.run(pass.rounds);
    pass.members = member->size;
}

double gflop_s(compute_pool& pool, flop_kernel kernel, std::uint64_t per_round) {
    if (!kernel)
        return 0;
    // About 2 ms each; the best of a few, since a neighbour can only slow one down.
    constexpr std::uint64_t flop_per_pass = 400'000'000;
    constexpr int passes = 5;
    double best = 0;
    for (int i = 0; i < passes; ++i) {
        flop_pass pass;
        pass.run = kernel;
        pass.rounds = flop_per_pass / per_round;
        const auto start = std::chrono::steady_clock::now();
        pool.run(0, &run_part, &pass);
        const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        const auto done = static_cast<double>(pass.rounds * per_round) * pass.members.load();
        best = std::max(best, seconds > 0 ? done / seconds / 1e9 : 0);
    }
    return best;
}

} // namespace

flop_kernels flop_kernels_scalar() noexcept {
    return {&multiply_add, nullptr, 64, 0};
}

flop_peaks measure_flop_peaks(compute_pool& pool) {
    const auto kernels = kernels_of_this_machine();
    return {gflop_s(pool, kernels.f32, kernels.f32_per_round), gflop_s(pool, kernels.bf16, kernels.bf16_per_round)};
}

} // namespace moira
