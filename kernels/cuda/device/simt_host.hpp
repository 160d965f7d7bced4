// The layer as plain C++: what simt.hpp gives device code when nvcc does not compile it. The functions that are only
// declared here are the host executor's (kernels/cuda/host). Included by simt.hpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

// Kernels and device functions are static: a kernel file is compiled with memory hooks, and the linker must not replace
// its functions by copies from a file without them.
#define SIMT_KERNEL(threads) [[maybe_unused]] static void
#define SIMT_FN [[maybe_unused]] static inline
#define SIMT_MEMBER inline
#define SIMT_PURE [[maybe_unused]] static inline
// The tag's address tells arrays apart, per instantiation too.
#define SIMT_SHARED(type, name, count)                                                                                 \
    static const char simt_tag_##name = 0;                                                                             \
    type* const name = static_cast<type*>(::moira::simt_static_shared(&simt_tag_##name, sizeof(type) * (count)))
#define SIMT_SHARED_DYNAMIC(type, name) type* const name = static_cast<type*>(::moira::simt_dynamic_shared())
#define SIMT_UNROLL

namespace moira {

struct simt_index {
    uint32_t x, y, z;
};
// Of the thread that runs; the executor sets them at every switch.
extern simt_index threadIdx;
extern simt_index blockIdx;
extern simt_index blockDim;
extern simt_index gridDim;

struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

// Where device code called the layer. Barriers are told apart by it: their return addresses change with inlining. Only
// the default arguments of a function see the caller's line in both compilers; those of a braced initialiser do not.
struct simt_place {
    const char* file;
    int line;
    static constexpr simt_place here(const char* caller_file = __builtin_FILE(), int caller_line = __builtin_LINE()) {
        return {caller_file, caller_line};
    }
};

void* simt_static_shared(const void* tag, uint64_t bytes);
void* simt_dynamic_shared();
// Checks one explicit access as the memory hooks would; alignment in bytes, or 1.
void simt_check_read(const void* address, uint32_t bytes, uint32_t alignment, simt_place place);
void simt_check_write(const void* address, uint32_t bytes, uint32_t alignment, simt_place place);

void __syncthreads(simt_place place = simt_place::here());
void __syncwarp(uint32_t mask = 0xFFFFFFFFu, simt_place place = simt_place::here());
uint32_t __ballot_sync(uint32_t mask, int predicate, simt_place place = simt_place::here());
// Bits from lane `source`, which must take part.
uint32_t simt_shuffle(uint32_t mask, uint32_t bits, uint32_t source, simt_place place);

float atomicAdd(float* address, float value, simt_place place = simt_place::here());
uint32_t atomicAdd(uint32_t* address, uint32_t value, simt_place place = simt_place::here());
int32_t atomicAdd(int32_t* address, int32_t value, simt_place place = simt_place::here());
unsigned long long atomicMin(unsigned long long* address, unsigned long long value,
                             simt_place place = simt_place::here());

void ldmatrix_x4(uint32_t (&registers)[4], const void* row, simt_place place = simt_place::here());
void ldmatrix_x4_trans(uint32_t (&registers)[4], const void* row, simt_place place = simt_place::here());
void mma_16816_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                    simt_place place = simt_place::here());

void cp_async16(void* shared, const void* global, bool wanted = true, simt_place place = simt_place::here());
void cp_async_commit(simt_place place = simt_place::here());
void simt_cp_async_wait(uint32_t groups, simt_place place);
template <int groups>
[[maybe_unused]] static inline void cp_async_wait(simt_place place = simt_place::here()) {
    simt_cp_async_wait(uint32_t(groups), place);
}

SIMT_FN uint32_t bits_of(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}
SIMT_FN float float_of(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
SIMT_FN float product(float a, float b) {
    return a * b; // the host build never fuses (-ffp-contract=off)
}

// Lane numbers as CUDA takes them, for values of 4 bytes.
template <class Value>
[[maybe_unused]] static inline Value __shfl_sync(uint32_t mask, Value value, int lane,
                                                 simt_place place = simt_place::here()) {
    static_assert(sizeof(Value) == 4);
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    bits = simt_shuffle(mask, bits, uint32_t(lane) % 32, place);
    __builtin_memcpy(&value, &bits, sizeof bits);
    return value;
}
template <class Value>
[[maybe_unused]] static inline Value __shfl_xor_sync(uint32_t mask, Value value, int lanes,
                                                     simt_place place = simt_place::here()) {
    return __shfl_sync(mask, value, int(threadIdx.x % 32 ^ uint32_t(lanes)), place);
}
// Past the warp's end a lane keeps its own value.
template <class Value>
[[maybe_unused]] static inline Value __shfl_down_sync(uint32_t mask, Value value, uint32_t lanes,
                                                      simt_place place = simt_place::here()) {
    const uint32_t lane = threadIdx.x % 32;
    return __shfl_sync(mask, value, int(lane + lanes < 32 ? lane + lanes : lane), place);
}
template <class Value>
[[maybe_unused]] static inline Value __shfl_up_sync(uint32_t mask, Value value, uint32_t lanes,
                                                    simt_place place = simt_place::here()) {
    const uint32_t lane = threadIdx.x % 32;
    return __shfl_sync(mask, value, int(lane >= lanes ? lane - lanes : lane), place);
}

template <class Vector, class Element>
[[maybe_unused]] static inline Vector load_vector(const Element* address, simt_place place = simt_place::here()) {
    simt_check_read(address, sizeof(Vector), sizeof(Vector), place);
    Vector value;
    __builtin_memcpy(&value, address, sizeof value);
    return value;
}
template <class Vector, class Element>
[[maybe_unused]] static inline void store_vector(Element* address, const Vector& value,
                                                 simt_place place = simt_place::here()) {
    simt_check_write(address, sizeof(Vector), sizeof(Vector), place);
    __builtin_memcpy(address, &value, sizeof value);
}
template <class Element>
[[maybe_unused]] static inline uint4 load_streaming(const Element* address, simt_place place = simt_place::here()) {
    return load_vector<uint4>(address, place);
}

// As cvt.rn.bf16x2.f32: nearest, ties to even, NaN becomes 0x7FFF.
SIMT_FN uint32_t bf16_bits_of(float value) {
    const uint32_t bits = bits_of(value);
    return value != value ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
}
SIMT_FN uint32_t bf16x2_of(float low, float high) {
    return bf16_bits_of(high) << 16 | bf16_bits_of(low);
}
// Products of two pairs of BF16, each rounded once.
SIMT_FN uint32_t bf16x2_product(uint32_t a, uint32_t b) {
    return bf16x2_of(float_of(a << 16) * float_of(b << 16), float_of(a & 0xFFFF0000u) * float_of(b & 0xFFFF0000u));
}

} // namespace moira
