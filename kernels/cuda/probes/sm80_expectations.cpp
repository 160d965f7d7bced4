// What the probes must find. Plain C++: the tables, and the layer as the host executor emulates it.
#include "kernels/cuda/device/fragment_maps.hpp"
#include "kernels/cuda/probes/device_probe.hpp"

namespace moira {

namespace {

bool same(const tile_place& a, const tile_place& b) {
    return a.row == b.row && a.column == b.column;
}

// A holds 1 at `hot`: row hot.row of the result is row hot.column of B.
uint32_t expected_mma_a(uint32_t case_index, uint32_t lane, uint32_t word) {
    const tile_place hot = mma_a_place(case_index / 8, case_index % 8);
    const tile_place place = mma_c_place(lane, word);
    if (place.row != hot.row)
        return bits_of(0.0f);
    for (uint32_t from = 0; from < warp_lanes; ++from)
        for (uint32_t element = 0; element < 4; ++element)
            if (same(mma_b_place(from, element), {hot.column, place.column}))
                return bits_of(float(probe_b_label(from, element)));
    return ~0u; // the tables are incomplete
}

uint32_t expected_mma_b(uint32_t case_index, uint32_t lane, uint32_t word) {
    const tile_place hot = mma_b_place(case_index / 4, case_index % 4);
    const tile_place place = mma_c_place(lane, word);
    if (place.column != hot.column)
        return bits_of(0.0f);
    for (uint32_t from = 0; from < warp_lanes; ++from)
        for (uint32_t element = 0; element < 8; ++element)
            if (same(mma_a_place(from, element), {place.row, hot.row}))
                return bits_of(float(probe_a_label(from, element)));
    return ~0u;
}

uint32_t expected_mma_c(uint32_t case_index, uint32_t lane, uint32_t word) {
    return bits_of(float(probe_b_label(lane, word) + 16 * case_index)); // case 0: zeros, case 1: 16 products of 1
}

template <tile_place (*place_of)(uint32_t, uint32_t)>
uint32_t expected_ldmatrix(uint32_t, uint32_t lane, uint32_t matrix) {
    uint32_t bits = 0;
    for (uint32_t half = 0; half < 2; ++half) {
        const tile_place place = place_of(lane, half);
        bits |= (matrix * 64 + place.row * 8 + place.column) << half * 16;
    }
    return bits;
}
tile_place straight(uint32_t lane, uint32_t half) {
    return ldmatrix_place(lane, half);
}
tile_place transposed(uint32_t lane, uint32_t half) {
    return ldmatrix_trans_place(lane, half);
}

uint32_t expected_cp_async(uint32_t, uint32_t lane, uint32_t word) {
    const uint32_t from = lane ^ 1u;
    return from % 2 == 0 ? probe_in_word(from * 4 + word) : 0;
}
uint32_t expected_load_streaming(uint32_t, uint32_t lane, uint32_t word) {
    return probe_in_word(lane * 4 + word);
}
uint32_t expected_bf16x2_of(uint32_t case_index, uint32_t lane, uint32_t) {
    const uint32_t at = (case_index * warp_lanes + lane) * 2;
    return bf16x2_of(float_of(probe_float_bits(at)), float_of(probe_float_bits(at + 1)));
}
uint32_t expected_bf16x2_product(uint32_t case_index, uint32_t lane, uint32_t) {
    const uint32_t at = (case_index * warp_lanes + lane) * 2;
    return bf16x2_product(probe_pair_bits(at), probe_pair_bits(at + 1));
}
uint32_t expected_product(uint32_t case_index, uint32_t lane, uint32_t) {
    const uint32_t at = (case_index * warp_lanes + lane) * 3;
    // In double the product is exact: one rounding to float stands for the kernel's, a second one for the sum.
    const auto product =
        static_cast<float>(double(float_of(probe_small_bits(at))) * double(float_of(probe_small_bits(at + 1))));
    const float sum = product + float_of(probe_small_bits(at + 2));
    return bits_of(sum);
}

constexpr device_probe probes[] = {
    {"mma.m16n8k16.bf16, A one-hot", 256, 4, expected_mma_a},
    {"mma.m16n8k16.bf16, B one-hot", 128, 4, expected_mma_b},
    {"mma.m16n8k16.bf16, accumulator", 2, 4, expected_mma_c},
    {"ldmatrix.x4", 1, 4, expected_ldmatrix<straight>},
    {"ldmatrix.x4.trans", 1, 4, expected_ldmatrix<transposed>},
    {"cp.async 16 bytes, with and without source", 1, 4, expected_cp_async},
    {"ld.global.nc.v4", 1, 4, expected_load_streaming},
    {"cvt.rn.bf16x2.f32", 64, 1, expected_bf16x2_of},
    {"fma.rn.bf16x2 as product", 64, 1, expected_bf16x2_product},
    {"product and sum, not fused", 64, 1, expected_product},
};

} // namespace

probe_list sm80_probes() {
    return {probes, sizeof probes / sizeof probes[0]};
}

probe_mismatch compare_probe(const device_probe& probe, const uint32_t* words) {
    probe_mismatch mismatch{};
    for (uint32_t index = 0; index < probe.cases; ++index)
        for (uint32_t thread = 0; thread < probe.threads; ++thread)
            for (uint32_t word = 0; word < probe.words_per_thread; ++word) {
                const uint32_t bits = *words++;
                const uint32_t wanted = probe.expected(index, thread, word);
                if (bits == wanted)
                    continue;
                if (!mismatch.found)
                    mismatch = {true, index, thread, word, wanted, bits, 0};
                ++mismatch.wrong_words;
            }
    return mismatch;
}

} // namespace moira
