// The operands of the warpgroup's probes, the same on both sides.
#pragma once

#include "kernels/cuda/device/wgmma_operands.hpp"
#include "kernels/cuda/probes/device_probe.hpp"

namespace moira {

// Numbers of BF16 from 1 up, in steps of their last bit: as many as a matrix has elements, all different.
SIMT_PURE constexpr uint32_t wgmma_label_bits(uint32_t label) {
    return 0x3F80u + label;
}
SIMT_PURE constexpr uint32_t wgmma_b_label(uint32_t k, uint32_t column) {
    return column * 16 + k;
}
SIMT_PURE constexpr uint32_t wgmma_a_label(uint32_t thread, uint32_t element) {
    return thread * 8 + element;
}

// Rows of B one behind the other, in atoms of eight; without swizzle the second half of k lies behind all of the first.
SIMT_PURE constexpr matrix_place wgmma_b_place(uint32_t start, uint32_t n, matrix_swizzle swizzle) {
    return {start, swizzle == matrix_swizzle::none ? n * 16 : 16, 8 * swizzle_row_bytes(swizzle), swizzle};
}

// The element of B that is 1 in a case: every column comes once in each n cases, every k once in each 16 rounds of
// them.
SIMT_PURE constexpr uint32_t wgmma_hot_column(uint32_t case_index, uint32_t n) {
    return case_index % n;
}
SIMT_PURE constexpr uint32_t wgmma_hot_k(uint32_t case_index, uint32_t n) {
    return (case_index / n + case_index % n) % 16;
}

// The largest matrix, with room to align it: 128 rows of 128 bytes.
inline constexpr uint32_t wgmma_probe_shared_bytes = 128 * 128 + 1024;

} // namespace moira
