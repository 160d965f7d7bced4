// Where the operands of wgmma.mma_async lie: the shared-memory matrix descriptor, the layout that it stands for, and
// the register fragments. From the PTX specification (ISA 8.x, "Asynchronous Warpgroup Level Matrix Shared Memory
// Layout" and "Register Fragments and Shared Memory Matrix Layouts"). Kernels encode descriptors with these functions,
// the host executor and the tests decode them; checked against tables from CuTe (tests/data/cuda/wgmma_cute.txt).
#pragma once

#include "kernels/cuda/device/fragment_maps.hpp"

namespace moira {

// As the descriptor's bits 62 and 63 hold it.
enum class matrix_swizzle : uint32_t { none = 0, bytes_128 = 1, bytes_64 = 2, bytes_32 = 3 };

// A K-major operand: 16-bit elements, 16 of K (two pieces of 16 bytes) for any number of rows, a multiple of 8.
struct matrix_place {
    uint32_t start;         // shared address, a multiple of 16
    uint32_t leading_bytes; // from the first piece of K to the second; swizzled layouts do not use it
    uint32_t stride_bytes;  // from 8 rows to the next 8
    matrix_swizzle swizzle;
};

// Every field counts in 16 bytes and has 14 bits; the base offset (bits 49 to 51) is 0: swizzled atoms begin at
// multiples of their own size.
inline constexpr uint32_t descriptor_unit = 16;
inline constexpr uint32_t descriptor_field_max = 0x3FFF;

SIMT_PURE constexpr uint64_t encode_matrix(const matrix_place& place) {
    return uint64_t(place.start / descriptor_unit & descriptor_field_max) |
           uint64_t(place.leading_bytes / descriptor_unit & descriptor_field_max) << 16 |
           uint64_t(place.stride_bytes / descriptor_unit & descriptor_field_max) << 32 | uint64_t(place.swizzle) << 62;
}

SIMT_PURE constexpr matrix_place decode_matrix(uint64_t descriptor) {
    return {uint32_t(descriptor & descriptor_field_max) * descriptor_unit,
            uint32_t(descriptor >> 16 & descriptor_field_max) * descriptor_unit,
            uint32_t(descriptor >> 32 & descriptor_field_max) * descriptor_unit, matrix_swizzle(descriptor >> 62)};
}
// What decode_matrix does not look at: 0 in every valid descriptor here.
SIMT_PURE constexpr uint64_t descriptor_rest(uint64_t descriptor) {
    return descriptor & ~(0xC000000000000000u | 0x3FFFull << 32 | 0x3FFFull << 16 | 0x3FFFull);
}

// Bytes of a row within a swizzle atom of 8 rows, and how many of the address bits from 7 up are added (exclusive or)
// to those from 4 up.
SIMT_PURE constexpr uint32_t swizzle_row_bytes(matrix_swizzle swizzle) {
    return swizzle == matrix_swizzle::bytes_128  ? 128
           : swizzle == matrix_swizzle::bytes_64 ? 64
           : swizzle == matrix_swizzle::bytes_32 ? 32
                                                 : 16;
}

// Shared address of 16 bytes: elements `piece` * 8 to `piece` * 8 + 7 of a row.
SIMT_PURE constexpr uint32_t matrix_piece_address(const matrix_place& place, uint32_t row, uint32_t piece) {
    const uint32_t row_bytes = swizzle_row_bytes(place.swizzle);
    const uint32_t piece_bytes = place.swizzle == matrix_swizzle::none ? place.leading_bytes : 16;
    const uint32_t address = place.start + row / 8 * place.stride_bytes + row % 8 * row_bytes + piece * piece_bytes;
    return address ^ (address >> 7 & (row_bytes / 16 - 1)) << 4;
}

// ---- registers: a warpgroup's warp w holds rows 16 w to 16 w + 15, as mma.sync would -------------------------------

// A: 64 x 16, element 0..7 of a lane of the warp; row within the warp's 16.
SIMT_PURE constexpr tile_place wgmma_a_place(uint32_t lane, uint32_t element) {
    return mma_a_place(lane, element);
}
// D: 64 x n, element 0..n / 2 - 1; row within the warp's 16.
SIMT_PURE constexpr tile_place wgmma_d_place(uint32_t lane, uint32_t element) {
    return {lane / 4 + element / 2 % 2 * 8, lane % 4 * 2 + element % 2 + element / 4 * 8};
}

} // namespace moira
