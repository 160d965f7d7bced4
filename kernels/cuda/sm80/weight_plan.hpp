// Packed weights as the host sees them: their format and their size.
#pragma once

#include "kernels/cuda/sm80/sm80_kernels.hpp"
#include "kernels/cuda/sm80/weight_tiles.hpp"
#include "kernels/packed_layout.hpp"

namespace moira {

// Of a supported quantisation.
constexpr weight_format weight_format_of(const moira_quantization& quantization) {
    switch (quantization.weight_type) {
    case MOIRA_TYPE_F8_E4M3:
        return weight_format::f8_e4m3;
    case MOIRA_TYPE_F4_E2M1:
        return weight_format::mxfp4;
    case MOIRA_TYPE_F16:
        return weight_format::f16;
    case MOIRA_TYPE_F32:
        return weight_format::f32;
    default:
        return weight_format::bf16;
    }
}

// Of one packed matrix [n, k], a multiple of 64.
inline uint64_t mma_tiles_bytes(const moira_quantization& quantization, uint32_t n, uint32_t k) {
    const weight_format format = weight_format_of(quantization);
    const uint64_t tiles = (uint64_t{n} + weight_tile_rows - 1) / weight_tile_rows *
                           ((uint64_t{k} + weight_tile_k(format) - 1) / weight_tile_k(format));
    return round_up(tiles * weight_tile_bytes(format), 64);
}

} // namespace moira
