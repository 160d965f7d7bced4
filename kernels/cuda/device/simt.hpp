// The thin layer in which device code is written. One source compiles with nvcc for a GPU and as plain C++ for the host
// executor (kernels/cuda/host), which runs one fiber per CUDA thread and watches what a GPU hides.
//
// Rules for device code:
//   - Kernels and device functions are written with the macros below and with the functions of this layer; no PTX and
//     no intrinsic elsewhere. Kernel parameters are PODs, passed by value.
//   - Shared memory only through SIMT_SHARED and SIMT_SHARED_DYNAMIC; vector accesses only through load_vector and
//     store_vector (so that a misaligned one is found); no memcpy, no writable globals, no spinning on memory.
//   - A thread leaves a kernel only where its whole block does, or where no barrier follows for anybody.
//   - Lanes exchange data through shared memory only across __syncwarp or __syncthreads. A shuffle orders nothing.
//   - Products that must not be fused with the sum behind them are written product(a, b).
//
// What both sides give, in namespace moira or natively:
//   SIMT_KERNEL(threads) name(...)        a kernel launched with at most `threads` threads per block
//   SIMT_FN, SIMT_MEMBER, SIMT_PURE       a device function; the same inside a class; one for host and device
//   SIMT_SHARED(type, name, count)        static shared array of the block, aligned to 16 bytes
//   SIMT_SHARED_DYNAMIC(type, name)       pointer to the launch's dynamic shared memory, aligned to 128 bytes
//   SIMT_UNROLL                           unrolls the loop behind it
//   threadIdx, blockIdx, blockDim, gridDim, __syncthreads, __syncwarp, __shfl_sync, __shfl_xor_sync, __shfl_down_sync,
//   __shfl_up_sync, __ballot_sync, atomicAdd (float, uint32, int32), atomicMin (unsigned long long)
//   uint2, uint4, float2, float4, and the functions declared in simt_host.hpp and simt_cuda.hpp
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#include "kernels/cuda/device/simt_cuda.hpp"
#else
#include "kernels/cuda/device/simt_host.hpp"
#endif

namespace moira {

constexpr uint32_t warp_lanes = 32;
constexpr uint32_t warp_full = 0xFFFFFFFFu;

SIMT_FN uint32_t lane_of_thread() {
    return threadIdx.x % warp_lanes;
}
SIMT_FN uint32_t warp_of_thread() {
    return threadIdx.x / warp_lanes;
}

// The sum over the warp, the same bits in every lane: pairs at distance 16, 8, 4, 2, 1.
SIMT_FN float warp_sum(float value) {
    SIMT_UNROLL
    for (uint32_t distance = warp_lanes / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(warp_full, value, int(distance));
    return value;
}

SIMT_FN float warp_max(float value) {
    SIMT_UNROLL
    for (uint32_t distance = warp_lanes / 2; distance > 0; distance /= 2) {
        const float other = __shfl_xor_sync(warp_full, value, int(distance));
        value = other > value ? other : value;
    }
    return value;
}

// The sum over the block, the same bits in every thread. `warp_sums`: shared, one float per warp. Every thread of the
// block calls it; the block has whole warps only. Ends with a barrier, so that warp_sums can be used again.
SIMT_FN float block_sum(float value, float* warp_sums) {
    value = warp_sum(value);
    if (lane_of_thread() == 0)
        warp_sums[warp_of_thread()] = value;
    __syncthreads();
    float sum = 0.0f;
    for (uint32_t warp = 0; warp < blockDim.x / warp_lanes; ++warp)
        sum += warp_sums[warp];
    __syncthreads();
    return sum;
}

// Where kernels report what they skip: one slot per entry of the launch list, all bits set before the step. The least
// row wins, so the host finds the first error in list order, then by row, whatever order the blocks ran in.
struct step_error_slot {
    unsigned long long row_code;   // row << 32 | MOIRA_ERROR_*
    unsigned long long row_detail; // row << 32 | detail
};

SIMT_FN void report_step_error(step_error_slot* slot, uint32_t code, uint32_t row, int32_t detail) {
    const auto high = static_cast<unsigned long long>(row) << 32;
    atomicMin(&slot->row_code, high | code);
    atomicMin(&slot->row_detail, high | uint32_t(detail));
}

} // namespace moira
