// What one warp of a GPU does with chosen inputs, and what it must give: the list that moira_device_probe runs. A
// plugin's own instructions (wgmma and its like) get a list of their own: a probe_set beside sm80's, in probe_sets.cpp.
#pragma once

#include "kernels/cuda/device/simt.hpp"

namespace moira {

struct probe_args {
    const uint32_t* in; // probe_in_words words, see probe_in_word
    uint32_t* out;      // [case][thread][words_per_thread]
};

inline constexpr uint32_t probe_in_words = 4096;

struct device_probe {
    const char* name;
    uint32_t cases; // one block each
    uint32_t words_per_thread;
    uint32_t (*expected)(uint32_t case_index, uint32_t thread, uint32_t word);
    uint32_t threads = warp_lanes; // of a block
};

struct probe_list {
    const device_probe* probes;
    uint32_t count;
};

// mma.m16n8k16 and ldmatrix with the tables of fragment_maps.hpp; the layer's other instructions as the host executor
// emulates them.
probe_list sm80_probes();
// wgmma with the tables and descriptors of wgmma_operands.hpp, bulk copies and their barrier.
probe_list sm90_probes();

// Those of one kind of GPU.
struct probe_set {
    const char* name;
    bool (*runs_on)(uint32_t compute_major, uint32_t compute_minor);
    probe_list list;
    // Launches probe `index` of the list; a cudaError_t.
    int (*launch)(uint32_t index, const probe_args& args);
};

struct probe_mismatch {
    bool found = false;
    uint32_t case_index, thread, word, expected_bits, found_bits;
    uint32_t wrong_words; // of all
};

// The first word that is not as expected.
probe_mismatch compare_probe(const device_probe& probe, const uint32_t* words);

constexpr uint64_t probe_words(const device_probe& probe) {
    return uint64_t{probe.cases} * probe.threads * probe.words_per_thread;
}

// ---- inputs: the same on both sides ---------------------------------------------------------------------------------

SIMT_PURE constexpr uint32_t probe_a_label(uint32_t lane, uint32_t element) {
    return lane * 8 + element + 1;
}
SIMT_PURE constexpr uint32_t probe_b_label(uint32_t lane, uint32_t element) {
    return lane * 4 + element + 1;
}
// Multiplication by an odd number mixes the bits well enough that no two words and few halves are alike.
SIMT_PURE constexpr uint32_t probe_in_word(uint32_t index) {
    return (index + 1) * 0x9E3779B1u;
}
// Any float but NaN; a quarter of them lie halfway between two numbers of BF16, some are subnormal.
SIMT_PURE constexpr uint32_t probe_float_bits(uint32_t index) {
    uint32_t bits = probe_in_word(index) ^ probe_in_word(index) >> 15;
    if (index % 4 == 1)
        bits = (bits & 0xFFFF0000u) | 0x8000u;
    if (index % 16 == 3)
        bits &= 0x807FFFFFu;
    return (bits & 0x7F800000u) == 0x7F800000u ? bits & 0xFF800000u : bits;
}
// Two finite numbers of BF16, subnormal ones among them.
SIMT_PURE constexpr uint32_t probe_pair_bits(uint32_t index) {
    const uint32_t bits = probe_in_word(index) ^ probe_in_word(index) >> 13;
    return (index % 8 == 5 ? bits & 0x807F807Fu : bits) & 0xBFFFBFFFu; // below 2: no product overflows
}
// A float between 1 and 2 or its negative, with all its bits.
SIMT_PURE constexpr uint32_t probe_small_bits(uint32_t index) {
    const uint32_t bits = probe_in_word(index) ^ probe_in_word(index) >> 15;
    return (bits & 0x807FFFFFu) | 0x3F800000u;
}

} // namespace moira
