// How weights lie in device memory for mma.sync (compute capability 8.0 and later). A matrix [n, k] is cut into tiles
// of 16 output columns and `k` input columns, stored [ceil(n / 16)][ceil(k / tile k)][tile]: the weights are the A
// operand, so that one lane's part of a fragment is one piece of a linear stream, and a warp reads whole tiles without
// a shuffle, a transpose or a bank conflict. What lies past n or k is 0.
//   BF16, F16  16 x 64:  [fragment of 16 x 16][lane][8 elements]                                     2,048 bytes
//   F32        16 x 64:  [fragment][elements 0-3, then 4-7][lane][4 elements]                        4,096 bytes
//   F8_E4M3    16 x 128: [two fragments][lane][16 elements], then the f32 scale and 12 bytes of 0    2,064 bytes
//   MXFP4      16 x 128: [two fragments][lane][16 elements], then the E8M0 scales [32 of k][16]      1,088 bytes
// The elements of a word are in the order in which two instructions widen two of them to a pair of BF16 (see
// weight_fragments.hpp). Scales travel with their tile: no second stream.
#pragma once

#include "kernels/cuda/device/fragment_maps.hpp"

#include <cstdint>

namespace moira {

enum class weight_format : uint32_t { bf16, f16, f32, f8_e4m3, mxfp4 };

// Bits 16 and up of a layout_id (kernels/packed_layout.hpp); a changed layout needs a new one.
inline constexpr uint32_t layout_base_mma_tiles = 8;

inline constexpr uint32_t weight_tile_rows = 16; // output columns
inline constexpr uint32_t weight_fragment_k = 16;

SIMT_PURE constexpr uint32_t weight_tile_k(weight_format format) {
    return format == weight_format::f8_e4m3 || format == weight_format::mxfp4 ? 128 : 64;
}

// Without scales.
SIMT_PURE constexpr uint32_t weight_tile_data_bytes(weight_format format) {
    return format == weight_format::f32 ? 4096 : format == weight_format::mxfp4 ? 1024 : 2048;
}

SIMT_PURE constexpr uint32_t weight_tile_bytes(weight_format format) {
    const uint32_t scales = format == weight_format::f8_e4m3 ? 16 : format == weight_format::mxfp4 ? 64 : 0;
    return weight_tile_data_bytes(format) + scales;
}

// Which lane holds element (row, column) of a 16 x 16 fragment, and as which of its 8: the inverse of mma_a_place.
struct fragment_slot {
    uint32_t lane;
    uint32_t element;
};
SIMT_PURE constexpr fragment_slot fragment_slot_of(uint32_t row, uint32_t column) {
    return {row % 8 * 4 + column % 8 / 2, column / 8 * 4 + row / 8 * 2 + column % 2};
}

// First bit of element (row, column) of a tile, from the tile's beginning.
SIMT_PURE constexpr uint32_t weight_bit_offset(weight_format format, uint32_t row, uint32_t column) {
    const uint32_t fragment = column / weight_fragment_k;
    const fragment_slot slot = fragment_slot_of(row, column % weight_fragment_k);
    const uint32_t half = slot.element % 2; // of a register
    const uint32_t place = slot.element / 2;
    switch (format) {
    case weight_format::f32:
        return (fragment * 1024 + slot.element / 4 * 512 + slot.lane * 16 + slot.element % 4 * 4) * 8;
    case weight_format::f8_e4m3: // a word holds two registers: the first in the high bytes of its halves
        return (fragment / 2 * 512 + slot.lane * 16 + fragment % 2 * 8 + place / 2 * 4 + half * 2 + 1 - place % 2) * 8;
    case weight_format::mxfp4: // a word holds a fragment's four registers: the first in the top of its halves
        return (fragment / 2 * 256 + slot.lane * 8 + fragment % 2 * 4) * 8 + half * 16 + (3 - place) * 4;
    default:
        return (fragment * 512 + slot.lane * 16 + slot.element * 2) * 8;
    }
}

// Byte of the E8M0 scale of (row, 32 columns) in an MXFP4 tile.
SIMT_PURE constexpr uint32_t mxfp4_scale_offset(uint32_t row, uint32_t group) {
    return 1024 + group * weight_tile_rows + row;
}

// Stored for E8M0 scales that do not fit (above 2, or NaN): widens to infinity.
inline constexpr uint8_t mxfp4_scale_infinite = 129;

} // namespace moira
