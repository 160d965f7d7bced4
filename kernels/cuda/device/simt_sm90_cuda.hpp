// The sm_90 part of the layer under nvcc, for 90a alone. Included by simt_sm90.hpp.
#pragma once

#include "kernels/cuda/device/simt_cuda.hpp"

namespace moira {

SIMT_FN void mbarrier_init(uint64_t* barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// For other threads and for bulk copies, which arrive through the asynchronous proxy.
SIMT_FN void mbarrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
SIMT_FN void mbarrier_arrive(uint64_t* barrier) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(shared_address(barrier))
                 : "memory");
}
// Expects `bytes` more in this phase, then arrives.
SIMT_FN void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1; }" ::"r"(
                     shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}
// try_wait itself sleeps for a while that the system chooses.
SIMT_FN void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
    uint32_t over = 0;
    do {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.b32 %0, 1, 0, p; }"
                     : "=r"(over)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
    } while (over == 0);
}

// One contiguous run from global to shared memory; addresses and size are multiples of 16.
SIMT_FN void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}
SIMT_FN void fence_proxy_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Registers per thread from here on, for all threads of a warpgroup: fewer, or more once others have given theirs back.
template <uint32_t registers>
SIMT_FN void give_back_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <uint32_t registers>
SIMT_FN void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

SIMT_FN void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
SIMT_FN void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most `groups` committed groups are still under way.
template <uint32_t groups>
SIMT_FN void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
}
// Keeps the compiler from using sums before the wait.
template <uint32_t count>
SIMT_FN void wgmma_settle(float (&d)[count]) {
    SIMT_UNROLL
    for (uint32_t i = 0; i < count; ++i)
        asm volatile("" : "+f"(d[i])::"memory");
}

#define SIMT_SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SIMT_SUMS_16(i) SIMT_SUMS_4(i), SIMT_SUMS_4(i + 4), SIMT_SUMS_4(i + 8), SIMT_SUMS_4(i + 12)
#define SIMT_SUMS_32(i) SIMT_SUMS_16(i), SIMT_SUMS_16(i + 16)
#define SIMT_SUMS_64(i) SIMT_SUMS_32(i), SIMT_SUMS_32(i + 32)

// d (= or +=) a b with m = 64, k = 16; A from registers, B by its descriptor, K-major; BF16 operands, float32 sums.
// clang-format off
SIMT_FN void wgmma_bf16_n(float (&d)[4], const uint32_t (&a)[4], uint64_t b, uint32_t accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %9, 0; "
                 "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, %8, p, 1, 1, 0; }"
                 : SIMT_SUMS_4(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
SIMT_FN void wgmma_bf16_n(float (&d)[16], const uint32_t (&a)[4], uint64_t b, uint32_t accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %21, 0; "
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
                 "{%16, %17, %18, %19}, %20, p, 1, 1, 0; }"
                 : SIMT_SUMS_16(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
SIMT_FN void wgmma_bf16_n(float (&d)[32], const uint32_t (&a)[4], uint64_t b, uint32_t accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; "
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
                 " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "{%32, %33, %34, %35}, %36, p, 1, 1, 0; }"
                 : SIMT_SUMS_32(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
SIMT_FN void wgmma_bf16_n(float (&d)[64], const uint32_t (&a)[4], uint64_t b, uint32_t accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0; "
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
                 " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
                 " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
                 " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
                 "{%64, %65, %66, %67}, %68, p, 1, 1, 0; }"
                 : SIMT_SUMS_64(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
// clang-format on

#undef SIMT_SUMS_4
#undef SIMT_SUMS_16
#undef SIMT_SUMS_32
#undef SIMT_SUMS_64

// n = 8, 32, 64 or 128.
template <uint32_t n>
SIMT_FN void wgmma_bf16(float (&d)[n / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
    wgmma_bf16_n(d, a, b, accumulate ? 1 : 0);
}

} // namespace moira
