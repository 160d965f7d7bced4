// As probe_kernels.hpp, for a warpgroup: one-hot operands of wgmma in registers and in shared memory, and a bulk copy.
#pragma once

#include "kernels/cuda/device/simt_sm90.hpp"
#include "kernels/cuda/probes/probe_kernels.hpp"
#include "kernels/cuda/probes/sm90_probe_inputs.hpp"

namespace moira {

SIMT_FN uint32_t* warpgroup_out(const probe_args& args, uint32_t words) {
    return args.out + (uint64_t{blockIdx.x} * warpgroup_threads + threadIdx.x) * words;
}

// B [n rows][16 of k] with the given pairs of BF16 into shared memory, in the layout that `place` stands for.
template <uint32_t n, class Value>
SIMT_FN void store_wgmma_b(unsigned char* shared, const matrix_place& place, const Value& value) {
    for (uint32_t i = threadIdx.x; i < n * 2; i += warpgroup_threads) {
        const uint32_t row = i / 2, first_k = i % 2 * 8;
        uint4 words;
        words.x = value(first_k, row) | value(first_k + 1, row) << 16;
        words.y = value(first_k + 2, row) | value(first_k + 3, row) << 16;
        words.z = value(first_k + 4, row) | value(first_k + 5, row) << 16;
        words.w = value(first_k + 6, row) | value(first_k + 7, row) << 16;
        store_vector(shared + (matrix_piece_address(place, row, i % 2) - place.start), words);
    }
    fence_proxy_async();
    __syncthreads();
}

// The matrix begins where a swizzle atom may begin.
SIMT_FN unsigned char* wgmma_b_memory(unsigned char* shared) {
    return shared + (1024 - shared_address(shared) % 1024) % 1024;
}

template <uint32_t n>
SIMT_FN void multiply_and_store(const probe_args& args, float (&d)[n / 2], const uint32_t (&a)[4],
                                const matrix_place& place, bool accumulate) {
    wgmma_fence();
    wgmma_bf16<n>(d, a, encode_matrix(place), accumulate);
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_settle(d);
    uint32_t* out = warpgroup_out(args, n / 2);
    SIMT_UNROLL
    for (uint32_t i = 0; i < n / 2; ++i)
        out[i] = bits_of(d[i]);
}

// Case: the one element of A that is 1 (thread * 8 + element). B holds labels.
template <uint32_t n, matrix_swizzle swizzle>
SIMT_KERNEL(128)
probe_wgmma_a(probe_args args) {
    SIMT_SHARED_DYNAMIC(unsigned char, memory);
    unsigned char* b = wgmma_b_memory(memory);
    const matrix_place place = wgmma_b_place(shared_address(b), n, swizzle);
    store_wgmma_b<n>(b, place, [](uint32_t k, uint32_t column) { return wgmma_label_bits(wgmma_b_label(k, column)); });
    uint32_t a[4] = {};
    float d[n / 2] = {};
    if (threadIdx.x == blockIdx.x / 8)
        set_element(a, blockIdx.x % 8, bf16_of_integer(1));
    multiply_and_store<n>(args, d, a, place, false);
}

// Case: the one element of B that is 1 (wgmma_hot_column, wgmma_hot_k). A holds labels.
template <uint32_t n, matrix_swizzle swizzle>
SIMT_KERNEL(128)
probe_wgmma_b(probe_args args) {
    SIMT_SHARED_DYNAMIC(unsigned char, memory);
    unsigned char* b = wgmma_b_memory(memory);
    const matrix_place place = wgmma_b_place(shared_address(b), n, swizzle);
    const uint32_t hot_column = wgmma_hot_column(blockIdx.x, n), hot_k = wgmma_hot_k(blockIdx.x, n);
    store_wgmma_b<n>(b, place, [=](uint32_t k, uint32_t column) {
        return column == hot_column && k == hot_k ? bf16_of_integer(1) : 0u;
    });
    uint32_t a[4] = {};
    float d[n / 2] = {};
    for (uint32_t element = 0; element < 8; ++element)
        set_element(a, element, wgmma_label_bits(wgmma_a_label(threadIdx.x, element)));
    multiply_and_store<n>(args, d, a, place, false);
}

// Case 0: sums are replaced, case 1: products are added to them.
template <uint32_t n>
SIMT_KERNEL(128)
probe_wgmma_sums(probe_args args) {
    SIMT_SHARED_DYNAMIC(unsigned char, memory);
    unsigned char* b = wgmma_b_memory(memory);
    const matrix_place place = wgmma_b_place(shared_address(b), n, matrix_swizzle::bytes_128);
    store_wgmma_b<n>(b, place, [](uint32_t, uint32_t) { return bf16_of_integer(1); });
    uint32_t a[4] = {};
    for (uint32_t element = 0; element < 8; ++element)
        set_element(a, element, bf16_of_integer(1));
    float d[n / 2];
    for (uint32_t i = 0; i < n / 2; ++i)
        d[i] = float(threadIdx.x * (n / 2) + i);
    multiply_and_store<n>(args, d, a, place, blockIdx.x == 1);
}

// One bulk copy of all words, and what the barrier says when it has arrived.
SIMT_KERNEL(128) probe_bulk_copy(probe_args args) {
    SIMT_SHARED_DYNAMIC(unsigned char, memory);
    auto* words = reinterpret_cast<uint32_t*>(memory + 128);
    auto* barrier = reinterpret_cast<uint64_t*>(memory);
    constexpr uint32_t bytes = warpgroup_threads * 4 * sizeof(uint32_t);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        mbarrier_arrive_expect(barrier, bytes);
        bulk_copy(words, args.in, bytes, barrier);
    }
    mbarrier_wait(barrier, 0);
    uint32_t* out = warpgroup_out(args, 4);
    for (uint32_t i = 0; i < 4; ++i)
        out[i] = words[(threadIdx.x ^ 1u) * 4 + i];
}

// In the order of sm90_probes().
[[maybe_unused]] static const probe_kernel sm90_probe_kernels[] = {probe_wgmma_a<8, matrix_swizzle::bytes_128>,
                                                                   probe_wgmma_a<32, matrix_swizzle::bytes_128>,

                                                                   probe_wgmma_b<8, matrix_swizzle::bytes_128>,
                                                                   probe_wgmma_b<32, matrix_swizzle::bytes_128>,
                                                                   probe_wgmma_b<64, matrix_swizzle::bytes_128>,
                                                                   probe_wgmma_b<128, matrix_swizzle::bytes_128>,
                                                                   probe_wgmma_b<32, matrix_swizzle::none>,
                                                                   probe_wgmma_b<32, matrix_swizzle::bytes_32>,
                                                                   probe_wgmma_b<32, matrix_swizzle::bytes_64>,
                                                                   probe_wgmma_sums<32>,
                                                                   probe_bulk_copy};

} // namespace moira
