// The layer under nvcc: PTX lives here and nowhere else. Included by simt.hpp.
#pragma once

#include <cstdint>

// Static: several .cu files may include one kernel, and each keeps its own.
#define SIMT_KERNEL(threads) [[maybe_unused]] static __global__ void __launch_bounds__(threads, 1)
#define SIMT_FN __device__ __forceinline__
#define SIMT_MEMBER __device__ __forceinline__
#define SIMT_PURE __host__ __device__ __forceinline__
#define SIMT_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define SIMT_SHARED_DYNAMIC(type, name)                                                                                \
    extern __shared__ __align__(128) unsigned char simt_dynamic_shared[];                                              \
    type* name = reinterpret_cast<type*>(simt_dynamic_shared)
#define SIMT_UNROLL _Pragma("unroll")

namespace moira {

// Bits of one type as another of the same size.
SIMT_FN uint32_t bits_of(float value) {
    return __float_as_uint(value);
}
SIMT_FN float float_of(uint32_t bits) {
    return __uint_as_float(bits);
}

// a * b, rounded, never fused with what follows.
SIMT_FN float product(float a, float b) {
    return __fmul_rn(a, b);
}

// One aligned access of 4, 8 or 16 bytes.
template <class Vector, class Element>
SIMT_FN Vector load_vector(const Element* address) {
    return *reinterpret_cast<const Vector*>(address);
}
template <class Vector, class Element>
SIMT_FN void store_vector(Element* address, const Vector& value) {
    *reinterpret_cast<Vector*>(address) = value;
}
// 16 bytes of global memory that the kernel reads once and nobody writes while it runs.
template <class Element>
SIMT_FN uint4 load_streaming(const Element* address) {
    uint4 value;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address));
    return value;
}

SIMT_FN uint32_t shared_address(const void* address) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(address));
}

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned). See
// fragment_maps.hpp for what each lane receives.
SIMT_FN void ldmatrix_x4(uint32_t (&registers)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}
SIMT_FN void ldmatrix_x4_trans(uint32_t (&registers)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// d += a b with m = 16, n = 8, k = 16; a and b in BF16, d in float32.
SIMT_FN void mma_16816_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Copies 16 bytes from global to shared memory (both aligned to 16), or writes 16 zero bytes without reading the source
// when `wanted` is false. The bytes are there for the issuing thread after the wait, for others after a barrier too.
SIMT_FN void cp_async16(void* shared, const void* global, bool wanted = true) {
    const int bytes = wanted ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
                 : "memory");
}
SIMT_FN void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `groups` of this thread's committed groups are still under way.
template <int groups>
SIMT_FN void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// Two floats rounded to BF16 (nearest, ties to even), `low` in the lower half.
SIMT_FN uint32_t bf16x2_of(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

// Products of two pairs of BF16, each rounded once; subnormals count. Compute capability 8.0 multiplies pairs of BF16
// only with a sum behind: -0 leaves every product as it is.
SIMT_FN uint32_t bf16x2_product(uint32_t a, uint32_t b) {
    uint32_t packed;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(packed) : "r"(a), "r"(b), "r"(0x80008000u));
    return packed;
}

} // namespace moira
