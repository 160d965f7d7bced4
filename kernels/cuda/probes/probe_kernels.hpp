// One warp per case feeds an instruction inputs that tell every element apart, and stores what each lane's registers
// hold then: whether the PTX of the layer moves and multiplies elements as the tables and the executor's emulation say.
// A rotation of k alike in A and B leaves every product as it is: no product can show it. ldmatrix is probed alone.
#pragma once

#include "kernels/cuda/device/fragment_maps.hpp"
#include "kernels/cuda/probes/device_probe.hpp"

namespace moira {

// Every integer up to 256 is a number of BF16.
SIMT_FN uint32_t bf16_of_integer(uint32_t value) {
    return bits_of(float(value)) >> 16;
}
// Element `element` of a lane's registers (two per register) becomes `bits`.
template <uint32_t registers>
SIMT_FN void set_element(uint32_t (&fragment)[registers], uint32_t element, uint32_t bits) {
    SIMT_UNROLL
    for (uint32_t i = 0; i < registers; ++i)
        if (i == element / 2)
            fragment[i] |= bits << element % 2 * 16;
}

SIMT_FN uint32_t* probe_out(const probe_args& args, uint32_t words_per_lane) {
    return args.out + (uint64_t{blockIdx.x} * warp_lanes + lane_of_thread()) * words_per_lane;
}
SIMT_FN void store_sums(const probe_args& args, const float (&d)[4]) {
    uint32_t* out = probe_out(args, 4);
    SIMT_UNROLL
    for (uint32_t i = 0; i < 4; ++i)
        out[i] = bits_of(d[i]);
}

// Case: the one element of A that is 1 (lane * 8 + element). B holds labels.
SIMT_KERNEL(32) probe_mma_a(probe_args args) {
    const uint32_t lane = lane_of_thread();
    uint32_t a[4] = {}, b[2] = {};
    float d[4] = {};
    if (lane == blockIdx.x / 8)
        set_element(a, blockIdx.x % 8, bf16_of_integer(1));
    for (uint32_t element = 0; element < 4; ++element)
        set_element(b, element, bf16_of_integer(probe_b_label(lane, element)));
    mma_16816_bf16(d, a, b);
    store_sums(args, d);
}

// Case: the one element of B that is 1 (lane * 4 + element). A holds labels.
SIMT_KERNEL(32) probe_mma_b(probe_args args) {
    const uint32_t lane = lane_of_thread();
    uint32_t a[4] = {}, b[2] = {};
    float d[4] = {};
    if (lane == blockIdx.x / 4)
        set_element(b, blockIdx.x % 4, bf16_of_integer(1));
    for (uint32_t element = 0; element < 8; ++element)
        set_element(a, element, bf16_of_integer(probe_a_label(lane, element)));
    mma_16816_bf16(d, a, b);
    store_sums(args, d);
}

// The accumulator comes back where it was, and products are added to it.
SIMT_KERNEL(32) probe_mma_c(probe_args args) {
    const uint32_t lane = lane_of_thread();
    uint32_t a[4] = {}, b[2] = {};
    float d[4];
    for (uint32_t element = 0; element < 4; ++element)
        d[element] = float(probe_b_label(lane, element));
    for (uint32_t element = 0; element < 8; ++element) // all of A and B 1: 16 products of 1 each
        set_element(a, element, bf16_of_integer(blockIdx.x));
    for (uint32_t element = 0; element < 4; ++element)
        set_element(b, element, bf16_of_integer(blockIdx.x));
    mma_16816_bf16(d, a, b);
    store_sums(args, d);
}

template <bool transposed>
SIMT_KERNEL(32)
probe_ldmatrix(probe_args args) {
    SIMT_SHARED(uint16_t, tile, 4 * 64);
    const uint32_t lane = lane_of_thread();
    for (uint32_t i = lane; i < 4 * 64; i += warp_lanes)
        tile[i] = uint16_t(i);
    __syncwarp();
    uint32_t registers[4];
    if (transposed)
        ldmatrix_x4_trans(registers, tile + lane * 8);
    else
        ldmatrix_x4(registers, tile + lane * 8);
    uint32_t* out = probe_out(args, 4);
    for (uint32_t i = 0; i < 4; ++i)
        out[i] = registers[i];
}

// Even lanes copy 16 bytes, odd lanes want none: zeros must stand there then, whatever was before.
SIMT_KERNEL(32) probe_cp_async(probe_args args) {
    SIMT_SHARED(uint32_t, tile, 32 * 4);
    const uint32_t lane = lane_of_thread();
    for (uint32_t i = lane; i < 32 * 4; i += warp_lanes)
        tile[i] = 0xDEADBEEFu;
    __syncwarp();
    cp_async16(tile + lane * 4, args.in + lane * 4, lane % 2 == 0);
    cp_async_commit();
    cp_async_wait<0>();
    __syncwarp();
    uint32_t* out = probe_out(args, 4);
    for (uint32_t i = 0; i < 4; ++i)
        out[i] = tile[(lane ^ 1u) * 4 + i]; // the neighbour's
}

SIMT_KERNEL(32) probe_load_streaming(probe_args args) {
    const auto words = load_streaming(args.in + lane_of_thread() * 4);
    uint32_t* out = probe_out(args, 4);
    out[0] = words.x;
    out[1] = words.y;
    out[2] = words.z;
    out[3] = words.w;
}

SIMT_KERNEL(32) probe_bf16x2_of(probe_args args) {
    const uint32_t at = (blockIdx.x * warp_lanes + lane_of_thread()) * 2;
    *probe_out(args, 1) = bf16x2_of(float_of(probe_float_bits(at)), float_of(probe_float_bits(at + 1)));
}

SIMT_KERNEL(32) probe_bf16x2_product(probe_args args) {
    const uint32_t at = (blockIdx.x * warp_lanes + lane_of_thread()) * 2;
    *probe_out(args, 1) = bf16x2_product(probe_pair_bits(at), probe_pair_bits(at + 1));
}

// Products that are not fused, and sums that are rounded once.
SIMT_KERNEL(32) probe_product(probe_args args) {
    const uint32_t at = (blockIdx.x * warp_lanes + lane_of_thread()) * 3;
    const float a = float_of(probe_small_bits(at)), b = float_of(probe_small_bits(at + 1));
    *probe_out(args, 1) = bits_of(product(a, b) + float_of(probe_small_bits(at + 2)));
}

using probe_kernel = void (*)(probe_args);

// In the order of sm80_probes().
[[maybe_unused]] static const probe_kernel sm80_probe_kernels[] = {
    probe_mma_a,    probe_mma_b,          probe_mma_c,     probe_ldmatrix<false>, probe_ldmatrix<true>,
    probe_cp_async, probe_load_streaming, probe_bf16x2_of, probe_bf16x2_product,  probe_product};

} // namespace moira
