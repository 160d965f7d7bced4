// Packing for mma.sync: on the host, byte moves only.
#include "kernels/cuda/sm80/weight_plan.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace moira {

namespace {

// Place of every element of a tile, in units of four bits.
template <weight_format format>
constexpr auto make_places() {
    std::array<uint16_t, weight_tile_rows * weight_tile_k(format)> places{};
    for (uint32_t row = 0; row < weight_tile_rows; ++row)
        for (uint32_t column = 0; column < weight_tile_k(format); ++column)
            places[row * weight_tile_k(format) + column] = uint16_t(weight_bit_offset(format, row, column) / 4);
    return places;
}
template <weight_format format>
constexpr auto tile_places = make_places<format>();

constexpr uint32_t element_bits(weight_format format) {
    switch (format) {
    case weight_format::f32:
        return 32;
    case weight_format::f8_e4m3:
        return 8;
    case weight_format::mxfp4:
        return 4;
    default:
        return 16;
    }
}

// One element between two addresses in units of four bits. Targets of half bytes are 0 before.
template <weight_format format>
void move_element(char* to, uint64_t to_place, const char* from, uint64_t from_place) {
    if constexpr (format == weight_format::mxfp4) {
        const uint32_t code = uint32_t(static_cast<unsigned char>(from[from_place / 2])) >> from_place % 2 * 4 & 15u;
        to[to_place / 2] = char(static_cast<unsigned char>(to[to_place / 2]) | code << to_place % 2 * 4);
    } else {
        std::memcpy(to + to_place / 2, from + from_place / 2, element_bits(format) / 8);
    }
}

// A source or target matrix, row-major or transposed; strides in elements.
struct matrix_strides {
    uint64_t row;
    uint64_t column;
};

// Calls function(tile's bytes, first row, rows, first column, columns) for every tile.
template <weight_format format, class Function>
void for_tiles(uint32_t n, uint32_t k, uint64_t first_byte, const Function& function) {
    constexpr uint32_t tile_k = weight_tile_k(format);
    uint64_t at = first_byte;
    for (uint32_t row = 0; row < n; row += weight_tile_rows)
        for (uint32_t column = 0; column < k; column += tile_k) {
            function(at, row, std::min(weight_tile_rows, n - row), column, std::min(tile_k, k - column));
            at += weight_tile_bytes(format);
        }
}

bool has_nan_code(const unsigned char* tile) {
    return std::any_of(tile, tile + weight_tile_data_bytes(weight_format::f8_e4m3),
                       [](unsigned char code) { return (code & 0x7F) == 0x7F; });
}

// A tile's scale. The kernels read the NaN code as 480: a tile that has one gets NaN as its scale, so that nothing that
// is computed from it looks like a number.
void pack_tile_scale(const moira_quantization& quantization, uint32_t k, const void* scales, uint32_t row,
                     uint32_t column, char* tile) {
    const uint64_t blocks = (uint64_t{k} + quantization.block_k - 1) / quantization.block_k;
    const uint64_t index = row / quantization.block_n * blocks + column / quantization.block_k;
    char* target = tile + weight_tile_data_bytes(weight_format::f8_e4m3);
    std::memcpy(target, static_cast<const char*>(scales) + index * sizeof(float), sizeof(float));
    if (has_nan_code(reinterpret_cast<const unsigned char*>(tile)))
        std::memcpy(target, "\xFF\xFF\xFF\x7F", sizeof(float));
}

// The E8M0 scales of a tile: [n][ceil(k / 32)] in the source. Scales above 2 and NaN become the one that widens to
// infinity: loud, where the exact value has no room.
void pack_group_scales(uint32_t k, const void* scales, uint32_t row, uint32_t rows, uint32_t column, uint32_t columns,
                       char* tile) {
    constexpr uint32_t group_k = 32;
    const uint64_t groups = (uint64_t{k} + group_k - 1) / group_k;
    const auto* codes = static_cast<const unsigned char*>(scales);
    for (uint32_t r = 0; r < rows; ++r)
        for (uint32_t group = 0; group * group_k < columns; ++group) {
            const unsigned char code = codes[(uint64_t{row} + r) * groups + column / group_k + group];
            tile[mxfp4_scale_offset(r, group)] = char(std::min<unsigned char>(code, mxfp4_scale_infinite));
        }
}

template <weight_format format>
void pack_as(const moira_quantization& quantization, uint32_t n, uint32_t k, const char* weight,
             const matrix_strides& strides, const void* scales, char* packed) {
    constexpr uint64_t units = element_bits(format) / 4;
    for_tiles<format>(n, k, 0, [&](uint64_t at, uint32_t row, uint32_t rows, uint32_t column, uint32_t columns) {
        char* tile = packed + at;
        for (uint32_t r = 0; r < rows; ++r) {
            const uint16_t* places = tile_places<format>.data() + r * weight_tile_k(format);
            const uint64_t first = (uint64_t{row} + r) * strides.row + column * strides.column;
            for (uint32_t c = 0; c < columns; ++c)
                move_element<format>(tile, places[c], weight, (first + c * strides.column) * units);
        }
        if constexpr (format == weight_format::f8_e4m3)
            pack_tile_scale(quantization, k, scales, row, column, tile);
        if constexpr (format == weight_format::mxfp4)
            pack_group_scales(k, scales, row, rows, column, columns, tile);
    });
}

template <weight_format format>
void unpack_as(uint32_t n, uint32_t k, const char* packed, char* weight, const matrix_strides& strides) {
    constexpr uint64_t units = element_bits(format) / 4;
    for_tiles<format>(n, k, 0, [&](uint64_t at, uint32_t row, uint32_t rows, uint32_t column, uint32_t columns) {
        for (uint32_t r = 0; r < rows; ++r) {
            const uint16_t* places = tile_places<format>.data() + r * weight_tile_k(format);
            const uint64_t first = (uint64_t{row} + r) * strides.row + column * strides.column;
            for (uint32_t c = 0; c < columns; ++c)
                move_element<format>(weight, (first + c * strides.column) * units, packed + at, places[c]);
        }
    });
}

// Calls function with the format as a compile-time constant.
template <class Function>
void with_format(const moira_quantization& quantization, const Function& function) {
    switch (weight_format_of(quantization)) {
    case weight_format::f16:
        return function(std::integral_constant<weight_format, weight_format::f16>{});
    case weight_format::f32:
        return function(std::integral_constant<weight_format, weight_format::f32>{});
    case weight_format::f8_e4m3:
        return function(std::integral_constant<weight_format, weight_format::f8_e4m3>{});
    case weight_format::mxfp4:
        return function(std::integral_constant<weight_format, weight_format::mxfp4>{});
    default:
        return function(std::integral_constant<weight_format, weight_format::bf16>{});
    }
}

void pack_matrix(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* weight,
                 uint64_t row_stride, uint64_t column_stride, const void* scales, void* packed) {
    std::memset(packed, 0, mma_tiles_bytes(quantization, n, k));
    with_format(quantization, [&](auto format) {
        pack_as<decltype(format)::value>(quantization, n, k, static_cast<const char*>(weight),
                                         {row_stride, column_stride}, scales, static_cast<char*>(packed));
    });
}

// Two E2M1 weights share a byte of the target: it is cleared first, for tight row-major targets.
void unpack_matrix(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* packed, void* weight,
                   uint64_t row_stride, uint64_t column_stride) {
    if (weight_format_of(quantization) == weight_format::mxfp4)
        std::memset(weight, 0, (uint64_t{n} * k + 1) / 2);
    with_format(quantization, [&](auto format) {
        unpack_as<decltype(format)::value>(n, k, static_cast<const char*>(packed), static_cast<char*>(weight),
                                           {row_stride, column_stride});
    });
}

} // namespace

bool sm80_weight_supported(const moira_quantization& quantization) {
    if (quantization.activation != MOIRA_ACTIVATION_KEEP)
        return false;
    switch (quantization.weight_type) {
    case MOIRA_TYPE_BF16:
    case MOIRA_TYPE_F16:
    case MOIRA_TYPE_F32:
        return quantization.scale_mode == MOIRA_SCALE_NONE;
    case MOIRA_TYPE_F8_E4M3: // one scale per tile
        return quantization.scale_mode == MOIRA_SCALE_BLOCK && quantization.scale_type == MOIRA_TYPE_F32 &&
               quantization.block_n > 0 && quantization.block_n % weight_tile_rows == 0 &&
               quantization.block_k == weight_tile_k(weight_format::f8_e4m3);
    case MOIRA_TYPE_F4_E2M1:
        return quantization.scale_mode == MOIRA_SCALE_BLOCK && quantization.scale_type == MOIRA_TYPE_F8_E8M0 &&
               quantization.block_n == 1 && quantization.block_k == 32;
    default:
        return false;
    }
}

packing_kernels sm80_packing() {
    return {layout_base_mma_tiles, mma_tiles_bytes, pack_matrix, unpack_matrix};
}

} // namespace moira
