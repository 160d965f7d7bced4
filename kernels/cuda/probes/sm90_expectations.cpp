#include "kernels/cuda/probes/sm90_probe_inputs.hpp"

namespace moira {

namespace {

constexpr uint32_t threads = 128;

struct sum_place {
    uint32_t row, column; // of 64 x n
};
sum_place place_of_sum(uint32_t thread, uint32_t element) {
    const tile_place place = wgmma_d_place(thread % warp_lanes, element);
    return {thread / warp_lanes * 16 + place.row, place.column};
}
sum_place place_of_a(uint32_t thread, uint32_t element) { // column is k
    const tile_place place = wgmma_a_place(thread % warp_lanes, element);
    return {thread / warp_lanes * 16 + place.row, place.column};
}

uint32_t label_as_float(uint32_t label) {
    return wgmma_label_bits(label) << 16;
}

uint32_t expected_a(uint32_t case_index, uint32_t thread, uint32_t word) {
    const sum_place hot = place_of_a(case_index / 8, case_index % 8);
    const sum_place place = place_of_sum(thread, word);
    return place.row == hot.row ? label_as_float(wgmma_b_label(hot.column, place.column)) : bits_of(0.0f);
}

template <uint32_t n>
uint32_t expected_b(uint32_t case_index, uint32_t thread, uint32_t word) {
    const uint32_t hot_column = wgmma_hot_column(case_index, n), hot_k = wgmma_hot_k(case_index, n);
    const sum_place place = place_of_sum(thread, word);
    if (place.column != hot_column)
        return bits_of(0.0f);
    // A row of A lies in one warp.
    for (uint32_t from = thread / warp_lanes * warp_lanes; from < (thread / warp_lanes + 1) * warp_lanes; ++from)
        for (uint32_t element = 0; element < 8; ++element) {
            const sum_place a = place_of_a(from, element);
            if (a.row == place.row && a.column == hot_k)
                return label_as_float(wgmma_a_label(from, element));
        }
    return ~0u; // the tables are incomplete
}

uint32_t expected_sums(uint32_t case_index, uint32_t thread, uint32_t word) {
    constexpr uint32_t words = 16; // of n = 32
    return bits_of(16.0f + (case_index == 1 ? float(thread * words + word) : 0.0f));
}

uint32_t expected_bulk_copy(uint32_t, uint32_t thread, uint32_t word) {
    return probe_in_word((thread ^ 1u) * 4 + word);
}

// A's places do not depend on n; the sums' are seen with every column of B. Layouts of B are seen with every element.
constexpr device_probe probes[] = {
    {"wgmma.m64n8k16.bf16, A one-hot", threads * 8, 4, expected_a, threads},
    {"wgmma.m64n32k16.bf16, A one-hot", threads * 8, 16, expected_a, threads},
    {"wgmma.m64n8k16.bf16, B one-hot, swizzle 128", 8 * 16, 4, expected_b<8>, threads},
    {"wgmma.m64n32k16.bf16, B one-hot, swizzle 128", 32 * 16, 16, expected_b<32>, threads},
    {"wgmma.m64n64k16.bf16, B one-hot, swizzle 128", 64, 32, expected_b<64>, threads},
    {"wgmma.m64n128k16.bf16, B one-hot, swizzle 128", 128, 64, expected_b<128>, threads},
    {"wgmma.m64n32k16.bf16, B one-hot, no swizzle", 32 * 16, 16, expected_b<32>, threads},
    {"wgmma.m64n32k16.bf16, B one-hot, swizzle 32", 32 * 16, 16, expected_b<32>, threads},
    {"wgmma.m64n32k16.bf16, B one-hot, swizzle 64", 32 * 16, 16, expected_b<32>, threads},
    {"wgmma.m64n32k16.bf16, sums replaced and added to", 2, 16, expected_sums, threads},
    {"cp.async.bulk with an mbarrier", 1, 4, expected_bulk_copy, threads},
};

} // namespace

probe_list sm90_probes() {
    return {probes, sizeof probes / sizeof probes[0]};
}

} // namespace moira
