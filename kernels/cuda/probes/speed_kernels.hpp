// Kernels that do nothing but use up one resource: what the others are measured against.
#pragma once

#include "kernels/cuda/device/simt.hpp"

namespace moira {

struct speed_args {
    const uint4* data;
    uint64_t vectors; // of 16 bytes
    uint32_t rounds;
    uint32_t* sink; // written only when the sum is one value of 2^32: the work cannot be left out
};

inline constexpr uint32_t speed_threads = 512;
inline constexpr uint32_t speed_loads = 8; // of 16 bytes in flight per thread

// Reads all vectors once.
SIMT_KERNEL(512) speed_read(speed_args args) {
    const uint64_t threads = uint64_t{gridDim.x} * speed_threads;
    uint64_t at = uint64_t{blockIdx.x} * speed_threads + threadIdx.x;
    uint32_t sum = 0;
    for (; at + (speed_loads - 1) * threads < args.vectors; at += speed_loads * threads) {
        uint4 words[speed_loads];
        SIMT_UNROLL
        for (uint32_t i = 0; i < speed_loads; ++i)
            words[i] = load_streaming(args.data + at + i * threads);
        SIMT_UNROLL
        for (uint32_t i = 0; i < speed_loads; ++i)
            sum ^= words[i].x ^ words[i].y ^ words[i].z ^ words[i].w;
    }
    for (; at < args.vectors; at += threads)
        sum ^= load_streaming(args.data + at).x;
    if (sum == 0x12345678u)
        args.sink[0] = sum;
}

inline constexpr uint32_t speed_chains = 8; // of products that do not wait for each other
inline constexpr double speed_mma_flops = 2.0 * 16 * 8 * 16;

// rounds * speed_chains products of 16 x 8 x 16 per warp.
SIMT_KERNEL(512) speed_multiply(speed_args args) {
    const uint32_t one = 0x3F803F80u;
    const uint32_t a[4] = {one, one, one, one};
    const uint32_t b[2] = {one, one};
    float sums[speed_chains][4] = {};
    for (uint32_t round = 0; round < args.rounds; ++round) {
        SIMT_UNROLL
        for (uint32_t chain = 0; chain < speed_chains; ++chain)
            mma_16816_bf16(sums[chain], a, b);
    }
    float sum = 0.0f;
    SIMT_UNROLL
    for (uint32_t chain = 0; chain < speed_chains; ++chain)
        sum += sums[chain][0] + sums[chain][1] + sums[chain][2] + sums[chain][3];
    if (sum == -1.0f)
        args.sink[0] = bits_of(sum);
}

SIMT_KERNEL(32) speed_nothing(speed_args args) {
    if (args.rounds == ~0u)
        args.sink[0] = 0;
}

} // namespace moira
