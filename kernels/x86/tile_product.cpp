#include "kernels/x86/tile_product.hpp"

namespace moira {

namespace {

constexpr uint64_t row_bytes_wide = tile_columns * 4; // one K of float32, or one pair of BF16

// Vectors of columns that one register block covers: all 64 columns with AVX-512; with AVX2 all for one row, half for
// more.
constexpr uint32_t block_vectors(uint32_t rows) {
    return simd_lanes == 16 ? 4 : rows == 1 ? 8 : 4;
}

template <uint32_t rows, uint32_t vectors>
using register_block = simd_float[rows][vectors];

template <uint32_t rows, uint32_t vectors>
inline void clear(register_block<rows, vectors>& sums) {
    for (auto& row : sums)
        for (simd_float& sum : row)
            sum = simd_zero();
}

// One K: activations first, then one vector of weights after the other, so that sums, activations and a weight just fit
// the registers (AVX2: 8 + 2 + 1 of 16; AVX-512: 24 + 6 + 1 of 32). load(v) gives the weights of vector v.
template <uint32_t rows, uint32_t vectors, class Load>
inline void add_products(register_block<rows, vectors>& sums, const float* const* x, uint64_t k, const Load& load) {
    simd_float activations[rows];
    for (uint32_t r = 0; r < rows; ++r)
        activations[r] = simd_set(x[r][k]);
    for (uint32_t v = 0; v < vectors; ++v) {
        const simd_float weight = load(v);
        for (uint32_t r = 0; r < rows; ++r)
            sums[r][v] = simd_multiply_add(weight, activations[r], sums[r][v]);
    }
}

template <uint32_t rows, uint32_t vectors>
inline void sum_f32(register_block<rows, vectors>& sums, const char* weights, const float* const* x, uint64_t end) {
    for (uint64_t k = 0; k < end; ++k) {
        const auto* row = reinterpret_cast<const float*>(weights + k * row_bytes_wide);
        add_products<rows, vectors>(sums, x, k, [row](uint32_t v) { return simd_load(row + v * simd_lanes); });
    }
}

template <uint32_t rows, uint32_t vectors>
inline void sum_f8_e4m3(register_block<rows, vectors>& sums, const char* weights, const float* const* x, uint64_t begin,
                        uint64_t end) {
    for (uint64_t k = begin; k < end; ++k) {
        const auto* row = reinterpret_cast<const uint8_t*>(weights + k * tile_columns);
        add_products<rows, vectors>(sums, x, k, [row](uint32_t v) { return simd_f8_e4m3(row + v * simd_lanes); });
    }
}

// Both halves of a pair for one vector of columns before the next one, so that the weights are loaded once; per column
// the order of additions is still that of K.
template <uint32_t rows, uint32_t vectors>
inline void sum_bf16_wide(register_block<rows, vectors>& sums, const char* weights, const float* const* x,
                          uint64_t end) {
    uint64_t k = 0;
    for (; k + 2 <= end; k += 2) {
        const auto* row = reinterpret_cast<const uint32_t*>(weights + k / 2 * row_bytes_wide);
        simd_float activations[rows][2];
        for (uint32_t r = 0; r < rows; ++r) {
            activations[r][0] = simd_set(x[r][k]);
            activations[r][1] = simd_set(x[r][k + 1]);
        }
        for (uint32_t v = 0; v < vectors; ++v) {
            const simd_float first = simd_bf16_first(row + v * simd_lanes);
            const simd_float second = simd_bf16_second(row + v * simd_lanes);
            for (uint32_t r = 0; r < rows; ++r) {
                sums[r][v] = simd_multiply_add(first, activations[r][0], sums[r][v]);
                sums[r][v] = simd_multiply_add(second, activations[r][1], sums[r][v]);
            }
        }
    }
    if (k < end) {
        const auto* row = reinterpret_cast<const uint32_t*>(weights + k / 2 * row_bytes_wide);
        add_products<rows, vectors>(sums, x, k, [row](uint32_t v) { return simd_bf16_first(row + v * simd_lanes); });
    }
}

#if defined(__AVX512BF16__)
// Pairs of rounded activations that are staged at a time: 6 rows of 1 KiB stay in the first cache beside the tile.
constexpr uint32_t staged_pairs = 256;

template <uint32_t rows, uint32_t vectors>
inline void sum_bf16_dot(register_block<rows, vectors>& sums, const char* weights, const float* const* x,
                         uint64_t end) {
    alignas(64) uint32_t pairs[rows][staged_pairs];
    for (uint64_t begin = 0; begin < end; begin += 2 * staged_pairs) {
        const auto count = static_cast<uint32_t>(std::min<uint64_t>(2 * staged_pairs, end - begin));
        for (uint32_t r = 0; r < rows; ++r)
            for (uint32_t i = 0; i < count; i += 32)
                simd_round_to_bf16(x[r] + begin + i, std::min(32u, count - i), pairs[r] + i / 2);
        const auto* row = reinterpret_cast<const uint32_t*>(weights + begin / 2 * row_bytes_wide);
        for (uint32_t pair = 0; pair < (count + 1) / 2; ++pair, row += tile_columns)
            for (uint32_t r = 0; r < rows; ++r)
                for (uint32_t v = 0; v < vectors; ++v)
                    sums[r][v] = simd_bf16_dot(sums[r][v], row + v * simd_lanes, pairs[r][pair]);
    }
}
#endif

template <uint32_t rows, uint32_t vectors>
inline void store(const register_block<rows, vectors>& sums, uint32_t first_column, float (*out)[tile_columns]) {
    for (uint32_t r = 0; r < rows; ++r)
        for (uint32_t v = 0; v < vectors; ++v)
            simd_store(out[r] + first_column + v * simd_lanes, sums[r][v]);
}

// Per block of K: a partial sum in registers, then one multiply-add with the block's scale.
template <uint32_t rows, uint32_t vectors>
inline void multiply_f8(const tile_matrix& matrix, uint64_t tile, const char* weights, const float* const* x,
                        uint32_t first_column, float (*out)[tile_columns]) {
    const uint64_t blocks = (uint64_t{matrix.k} + matrix.block_k - 1) / matrix.block_k;
    const float* scales = matrix.scales + tile * tile_columns / matrix.block_n * blocks;
    register_block<rows, vectors> total;
    clear<rows, vectors>(total);
    for (uint64_t block = 0; block < blocks; ++block) {
        register_block<rows, vectors> partial;
        clear<rows, vectors>(partial);
        const uint64_t end = std::min<uint64_t>((block + 1) * matrix.block_k, matrix.k);
        sum_f8_e4m3<rows, vectors>(partial, weights, x, block * matrix.block_k, end);
        for (uint32_t r = 0; r < rows; ++r)
            for (uint32_t v = 0; v < vectors; ++v)
                total[r][v] = simd_multiply_add(partial[r][v], simd_set(scales[block] * simd_f8_factor), total[r][v]);
    }
    store<rows, vectors>(total, first_column, out);
}

template <uint32_t rows, uint32_t vectors>
void multiply_block(const tile_matrix& matrix, uint64_t tile, const float* const* x, uint32_t first_column,
                    float (*out)[tile_columns]) {
    const char* weights = matrix.tiles + tile * matrix.tile_bytes;
    if (matrix.format == tile_format::f8_e4m3)
        return multiply_f8<rows, vectors>(matrix, tile, weights + first_column, x, first_column, out);
    weights += uint64_t{first_column} * 4;
    register_block<rows, vectors> sums;
    clear<rows, vectors>(sums);
    switch (matrix.format) {
    case tile_format::f32:
        sum_f32<rows, vectors>(sums, weights, x, matrix.k);
        break;
#if defined(__AVX512BF16__)
    case tile_format::bf16_dot:
        sum_bf16_dot<rows, vectors>(sums, weights, x, matrix.k);
        break;
#endif
    default:
        sum_bf16_wide<rows, vectors>(sums, weights, x, matrix.k);
        break;
    }
    store<rows, vectors>(sums, first_column, out);
}

template <uint32_t rows>
void multiply_rows(const tile_matrix& matrix, uint64_t tile, const float* const* x, float (*out)[tile_columns]) {
    constexpr uint32_t vectors = block_vectors(rows);
    for (uint32_t column = 0; column < tile_columns; column += vectors * simd_lanes)
        multiply_block<rows, vectors>(matrix, tile, x, column, out);
}

// The rows that are left over when full register blocks are done.
template <uint32_t rows>
void multiply_rest(const tile_matrix& matrix, uint64_t tile, const float* const* x, uint32_t count,
                   float (*out)[tile_columns]) {
    if constexpr (rows > 0) {
        if (count == rows)
            multiply_rows<rows>(matrix, tile, x, out);
        else
            multiply_rest<rows - 1>(matrix, tile, x, count, out);
    }
}

} // namespace

void multiply_tile(const tile_matrix& matrix, uint64_t tile, const float* const* x, uint32_t rows, tile_sums& sums) {
    uint32_t row = 0;
    for (; row + simd_block_rows <= rows; row += simd_block_rows)
        multiply_rows<simd_block_rows>(matrix, tile, x + row, sums.at + row);
    multiply_rest<simd_block_rows - 1>(matrix, tile, x + row, rows - row, sums.at + row);
}

} // namespace moira
