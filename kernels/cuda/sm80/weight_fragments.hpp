// From a weight tile in shared memory to the A fragments of mma.sync, as BF16. Widening is exact: every E4M3 and E2M1
// number, the latter times its power of two, is one of BF16's.
#pragma once

#include "kernels/cuda/device/number_formats.hpp"
#include "kernels/cuda/device/simt.hpp"
#include "kernels/cuda/sm80/weight_tiles.hpp"

namespace moira {

// The bytes of a word as two pairs of BF16, first the high bytes of its halves. The bits of E4M3 are moved under BF16's
// sign and exponent, whose bias is 120 larger; the product with 2^120 sets that right, subnormals included. 9
// instructions for 4 weights. The NaN code 0x7F reads as 480: packing gives the
// whole tile NaN as its scale then.
SIMT_FN void widen_f8_word(uint32_t word, uint32_t& high, uint32_t& low) {
    constexpr uint32_t two_to_120 = 0x7B807B80u;
    const uint32_t shifted = word << 8;
    high = bf16x2_product((word & 0x80008000u) | (word >> 4 & 0x07F007F0u), two_to_120);
    low = bf16x2_product((shifted & 0x80008000u) | (shifted >> 4 & 0x07F007F0u), two_to_120);
}

// 2^126 (E2M1 under BF16's exponent) times the E8M0 scale 2^(bits - 127), twice. Exact up to a scale of
// 2; packing stores larger ones as the one that gives infinity here.
SIMT_FN uint32_t mxfp4_factor(uint32_t scale_bits) {
    return (scale_bits + 126u) * 0x00800080u;
}
SIMT_FN uint32_t widen_mxfp4(uint32_t word, uint32_t place, uint32_t factor) {
    const uint32_t top = word << 4 * place;
    return bf16x2_product((top & 0x80008000u) | (top >> 6 & 0x01C001C0u), factor);
}

// The two fragments of 32 of K: `step` counts them from the tile's beginning.
template <weight_format format>
SIMT_FN void load_fragments(const unsigned char* tile, uint32_t step, uint32_t lane, uint32_t (&a)[2][4]) {
    if constexpr (format == weight_format::bf16) {
        SIMT_UNROLL
        for (uint32_t half = 0; half < 2; ++half) {
            const auto part = load_vector<uint4>(tile + (step * 2 + half) * 512 + lane * 16);
            a[half][0] = part.x;
            a[half][1] = part.y;
            a[half][2] = part.z;
            a[half][3] = part.w;
        }
    } else if constexpr (format == weight_format::f8_e4m3) {
        const auto part = load_vector<uint4>(tile + step * 512 + lane * 16);
        widen_f8_word(part.x, a[0][0], a[0][1]);
        widen_f8_word(part.y, a[0][2], a[0][3]);
        widen_f8_word(part.z, a[1][0], a[1][1]);
        widen_f8_word(part.w, a[1][2], a[1][3]);
    } else {
        static_assert(format == weight_format::mxfp4, "the other formats are not multiplied as BF16");
        const auto part = load_vector<uint2>(tile + step * 256 + lane * 8);
        // Registers 0 and 2 are of the fragment's upper eight rows, 1 and 3 of the lower ones.
        const uint32_t factors[2] = {mxfp4_factor(tile[mxfp4_scale_offset(lane / 4, step)]),
                                     mxfp4_factor(tile[mxfp4_scale_offset(lane / 4 + 8, step)])};
        SIMT_UNROLL
        for (uint32_t place = 0; place < 4; ++place) {
            a[0][place] = widen_mxfp4(part.x, place, factors[place % 2]);
            a[1][place] = widen_mxfp4(part.y, place, factors[place % 2]);
        }
    }
}

// The factor of a whole tile that its partial sums are multiplied with, for formats that have one.
template <weight_format format>
SIMT_FN float tile_scale(const unsigned char* tile) {
    return float_of(load_vector<uint32_t>(tile + weight_tile_data_bytes(format)));
}
template <weight_format format>
constexpr bool has_tile_scale = format == weight_format::f8_e4m3;

} // namespace moira
