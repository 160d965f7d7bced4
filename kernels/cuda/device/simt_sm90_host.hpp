// The sm_90 part of the layer as plain C++: declared here, defined by the host executor. Included by simt_sm90.hpp.
#pragma once

#include "kernels/cuda/device/simt_host.hpp"

namespace moira {

// As a descriptor holds it.
uint32_t shared_address(const void* address);

void mbarrier_init(uint64_t* barrier, uint32_t arrivals, simt_place place = simt_place::here());
void mbarrier_init_fence(simt_place place = simt_place::here());
void mbarrier_arrive(uint64_t* barrier, simt_place place = simt_place::here());
void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes, simt_place place = simt_place::here());
void mbarrier_wait(uint64_t* barrier, uint32_t parity, simt_place place = simt_place::here());

void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier,
               simt_place place = simt_place::here());
void fence_proxy_async(simt_place place = simt_place::here());

// A warpgroup's; registers are not counted here.
void simt_set_registers(simt_place place);
template <uint32_t registers>
[[maybe_unused]] static inline void give_back_registers(simt_place place = simt_place::here()) {
    static_assert(registers % 8 == 0 && registers >= 24 && registers <= 256);
    simt_set_registers(place);
}
template <uint32_t registers>
[[maybe_unused]] static inline void take_registers(simt_place place = simt_place::here()) {
    static_assert(registers % 8 == 0 && registers >= 24 && registers <= 256);
    simt_set_registers(place);
}

void wgmma_fence(simt_place place = simt_place::here());
void wgmma_commit(simt_place place = simt_place::here());
void simt_wgmma(float* d, uint32_t n, const uint32_t* a, uint64_t b, bool accumulate, simt_place place);
void simt_wgmma_wait(uint32_t groups, simt_place place);

template <uint32_t n>
[[maybe_unused]] static inline void wgmma_bf16(float (&d)[n / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate,
                                               simt_place place = simt_place::here()) {
    simt_wgmma(d, n, a, b, accumulate, place);
}
template <uint32_t groups>
[[maybe_unused]] static inline void wgmma_wait(simt_place place = simt_place::here()) {
    simt_wgmma_wait(groups, place);
}
template <uint32_t count>
[[maybe_unused]] static inline void wgmma_settle(float (&)[count]) {}

} // namespace moira
