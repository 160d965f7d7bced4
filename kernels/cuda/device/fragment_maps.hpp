// Which element of a tile a lane holds, for the warp-wide matrix instructions, from the PTX specification (ISA 8.x,
// "Matrix fragments for mma.m16n8k16 with floating point type" and "ldmatrix"). Used by kernels and by the executor's
// emulation; checked against tests/data/cuda, whose tables come from the specification's text and from CuTe's traits.
#pragma once

#include "kernels/cuda/device/simt.hpp"

namespace moira {

struct tile_place {
    uint32_t row;
    uint32_t column;
};

// A: 16 x 16, element 0..7 of a lane; register element / 2, lower half first.
SIMT_PURE constexpr tile_place mma_a_place(uint32_t lane, uint32_t element) {
    return {lane / 4 + (element / 2 % 2) * 8, lane % 4 * 2 + element % 2 + element / 4 * 8};
}
// B: 16 (k) x 8 (n), element 0..3; row is k, column is n.
SIMT_PURE constexpr tile_place mma_b_place(uint32_t lane, uint32_t element) {
    return {lane % 4 * 2 + element % 2 + element / 2 * 8, lane / 4};
}
// C and D: 16 x 8, element 0..3, one register each.
SIMT_PURE constexpr tile_place mma_c_place(uint32_t lane, uint32_t element) {
    return {lane / 4 + element / 2 * 8, lane % 4 * 2 + element % 2};
}
// ldmatrix: half 0 (lower) or 1 of the register that a lane receives of one 8 x 8 matrix.
SIMT_PURE constexpr tile_place ldmatrix_place(uint32_t lane, uint32_t half) {
    return {lane / 4, lane % 4 * 2 + half};
}
SIMT_PURE constexpr tile_place ldmatrix_trans_place(uint32_t lane, uint32_t half) {
    return {lane % 4 * 2 + half, lane / 4};
}

} // namespace moira
