#pragma once

#include "core/execute/compute_pool.hpp"

#include <cstdint>

namespace moira {

/// How fast all threads of a pool together multiply and add with operands in registers: the bound of prefill. 10^9
/// operations per second, a multiplication and an addition counting as two; 0 where the processor lacks the
/// instruction.
struct flop_peaks {
    double f32_gflop_s = 0;  ///< fused multiply-add
    double bf16_gflop_s = 0; ///< dot product of BF16 pairs
};

/// Takes about 20 ms. No other task may run on the pool.
flop_peaks measure_flop_peaks(compute_pool& pool);

/// One loop: does `rounds` rounds and returns something that depends on all of them.
using flop_kernel = float (*)(std::uint64_t rounds);

struct flop_kernels {
    flop_kernel f32 = nullptr, bf16 = nullptr; ///< null: none
    std::uint64_t f32_per_round = 0, bf16_per_round = 0;
};

// One per vector unit, each from a file with its own compiler flags: call only what the processor has.
flop_kernels flop_kernels_scalar() noexcept;
flop_kernels flop_kernels_avx2() noexcept;
flop_kernels flop_kernels_avx512() noexcept;      ///< f32 alone
flop_kernels flop_kernels_avx512_bf16() noexcept; ///< bf16 alone

} // namespace moira
