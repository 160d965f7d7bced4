// What compute capability 9.0 adds to the layer: barriers in shared memory that count bytes, bulk copies that arrive at
// them, and products by warpgroups (128 threads, the first a multiple of 128). Further rules for device code:
//   - A barrier is initialised by one thread, which calls mbarrier_init_fence(), before the block's first
//     __syncthreads; it completes a phase when `arrivals` threads arrived and all expected bytes did.
//   - mbarrier_wait(barrier, parity) returns once the phase of that parity (0, 1, 0, ...) is over. Of a new barrier the
//     phase before the first counts as over: parity 1.
//   - What bulk copies brought may be read by whoever waited for their barrier. Before the next copy into a place, its
//     readers arrive at a barrier that the copying thread waits for.
//   - What threads stored in shared memory for wgmma is fenced by each of them (fence_proxy_async) before a barrier.
//   - Sums and A fragments of wgmma are not touched between wgmma_bf16 and the wgmma_wait that covers it; wgmma_fence
//     stands between their last change and the product, wgmma_settle between the wait and the sums' first use.
#pragma once

#include "kernels/cuda/device/simt.hpp"
#include "kernels/cuda/device/wgmma_operands.hpp"

#if defined(__CUDACC__)
#include "kernels/cuda/device/simt_sm90_cuda.hpp"
#else
#include "kernels/cuda/device/simt_sm90_host.hpp"
#endif

namespace moira {

constexpr uint32_t warpgroup_threads = 128;
constexpr uint32_t warpgroup_warps = 4;

} // namespace moira
