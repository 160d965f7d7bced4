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

// Both halves of a pair for one vector of columns before the next one, so that the weights are loaded once; per column
// the order of additions is still that of K. widen(row, v, first, second) gives the weights of vector v. An odd end
// leaves the last second out.
template <uint32_t rows, uint32_t vectors, class Widen>
inline void sum_pairs(register_block<rows, vectors>& sums, const char* weights, uint64_t pair_row_bytes,
                      const float* const* x, uint64_t begin, uint64_t end, const Widen& widen) {
    for (uint64_t k = begin; k < end; k += 2, weights += pair_row_bytes) {
        const bool has_second = k + 1 < end;
        simd_float activations[rows][2];
        for (uint32_t r = 0; r < rows; ++r) {
            activations[r][0] = simd_set(x[r][k]);
            activations[r][1] = has_second ? simd_set(x[r][k + 1]) : simd_zero();
        }
        for (uint32_t v = 0; v < vectors; ++v) {
            simd_float first;
            simd_float second;
            widen(weights, v, first, second);
            for (uint32_t r = 0; r < rows; ++r) {
                sums[r][v] = simd_multiply_add(first, activations[r][0], sums[r][v]);
                sums[r][v] = simd_multiply_add(second, activations[r][1], sums[r][v]);
            }
        }
    }
}

template <uint32_t rows, uint32_t vectors>
inline void store(const register_block<rows, vectors>& sums, uint32_t first_column, float (*out)[tile_columns]) {
    for (uint32_t r = 0; r < rows; ++r)
        for (uint32_t v = 0; v < vectors; ++v)
            simd_store(out[r] + first_column + v * simd_lanes, sums[r][v]);
}

// Per block of K: a partial sum in registers, then one multiply-add with the block's scale.
template <uint32_t rows, uint32_t vectors>
inline void sum_f8(register_block<rows, vectors>& total, const tile_shape& shape, const tile_weights& tile,
                   const float* const* x, uint32_t first_vector) {
    const uint64_t block_bytes = (uint64_t{shape.block_k} + 1) / 2 * tile_columns * 2;
    const auto widen = [first_vector](const char* row, uint32_t v, simd_float& first, simd_float& second) {
        simd_f8_widen(reinterpret_cast<const uint8_t*>(row), first_vector + v, first, second);
    };
    const char* weights = tile.data;
    const float* scale = tile.scales;
    for (uint64_t begin = 0; begin < shape.k; begin += shape.block_k, weights += block_bytes, ++scale) {
        register_block<rows, vectors> partial;
        clear<rows, vectors>(partial);
        const uint64_t end = std::min<uint64_t>(begin + shape.block_k, shape.k);
        sum_pairs<rows, vectors>(partial, weights, uint64_t{tile_columns} * 2, x, begin, end, widen);
        for (uint32_t r = 0; r < rows; ++r)
            for (uint32_t v = 0; v < vectors; ++v)
                total[r][v] = simd_multiply_add(partial[r][v], simd_set(*scale * simd_f8_factor), total[r][v]);
    }
}

// The weights of vector v of a BF16 pair row.
inline void widen_bf16(const char* row, uint32_t v, simd_float& first, simd_float& second) {
    first = simd_bf16_first(row + v * simd_lanes * 4);
    second = simd_bf16_second(row + v * simd_lanes * 4);
}

// One block of scales of E4M3, decoded to BF16 pairs (exact, with 1 / simd_f8_factor too) for rows that share it.
constexpr uint32_t decoded_k_max = 256;
struct alignas(64) decoded_block {
    char bytes[decoded_k_max / 2 * row_bytes_wide];
};

void decode_block(const char* weights, uint64_t pairs, decoded_block& decoded) {
    for (uint64_t pair = 0; pair < pairs; ++pair)
        for (uint32_t v = 0; v < tile_columns / simd_lanes; ++v) {
            simd_float first;
            simd_float second;
            simd_f8_widen(reinterpret_cast<const uint8_t*>(weights + pair * tile_columns * 2), v, first, second);
            simd_bf16_store_pairs(decoded.bytes + pair * row_bytes_wide + v * simd_lanes * 4, first, second);
        }
}

// total += scale * partial sums of a decoded block, as sum_f8 does it; total begins at 0 in the first block.
struct decoded_part {
    const decoded_block& weights;
    float scale;
    uint64_t begin; // in K
    uint64_t end;
};
template <uint32_t rows>
void add_decoded(const decoded_part& part, const float* const* x, float (*out)[tile_columns]) {
    constexpr uint32_t vectors = block_vectors(rows);
    for (uint32_t column = 0; column < tile_columns; column += vectors * simd_lanes) {
        register_block<rows, vectors> partial;
        clear<rows, vectors>(partial);
        sum_pairs<rows, vectors>(partial, part.weights.bytes + uint64_t{column} * 4, row_bytes_wide, x, part.begin,
                                 part.end, widen_bf16);
        for (uint32_t r = 0; r < rows; ++r)
            for (uint32_t v = 0; v < vectors; ++v) {
                float* total = out[r] + column + v * simd_lanes;
                const simd_float before = part.begin == 0 ? simd_zero() : simd_load(total);
                simd_store(total, simd_multiply_add(partial[r][v], simd_set(part.scale), before));
            }
    }
}

template <uint32_t rows, uint32_t vectors>
void multiply_block(const tile_shape& shape, const tile_weights& tile, const float* const* x, uint32_t first_column,
                    float (*out)[tile_columns]) {
    const char* weights = tile.data + uint64_t{first_column} * 4;
    register_block<rows, vectors> sums;
    clear<rows, vectors>(sums);
    if (shape.format == tile_format::f8_wide)
        sum_f8<rows, vectors>(sums, shape, tile, x, first_column / simd_lanes);
    else if (shape.format == tile_format::f32)
        sum_f32<rows, vectors>(sums, weights, x, shape.k);
    else
        sum_pairs<rows, vectors>(sums, weights, row_bytes_wide, x, 0, shape.k, widen_bf16);
    store<rows, vectors>(sums, first_column, out);
}

template <uint32_t rows>
void multiply_rows(const tile_shape& shape, const tile_weights& tile, const float* const* x,
                   float (*out)[tile_columns]) {
    constexpr uint32_t vectors = block_vectors(rows);
    for (uint32_t column = 0; column < tile_columns; column += vectors * simd_lanes)
        multiply_block<rows, vectors>(shape, tile, x, column, out);
}

// Calls function.template operator()<n>(row) for all rows, as many at a time as registers hold.
template <uint32_t rest, class Function>
void for_rest(uint32_t row, uint32_t count, const Function& function) {
    if constexpr (rest > 0) {
        if (count == rest)
            function.template operator()<rest>(row);
        else
            for_rest<rest - 1>(row, count, function);
    }
}
template <class Function>
void for_row_blocks(uint32_t rows, const Function& function) {
    uint32_t row = 0;
    for (; row + simd_block_rows <= rows; row += simd_block_rows)
        function.template operator()<simd_block_rows>(row);
    for_rest<simd_block_rows - 1>(row, rows - row, function);
}

void multiply_decoded(const tile_shape& shape, const tile_weights& tile, const float* const* x, uint32_t rows,
                      tile_sums& sums) {
    const uint64_t block_bytes = (uint64_t{shape.block_k} + 1) / 2 * tile_columns * 2;
    const char* weights = tile.data;
    const float* scale = tile.scales;
    decoded_block decoded;
    for (uint64_t begin = 0; begin < shape.k; begin += shape.block_k, weights += block_bytes, ++scale) {
        const uint64_t end = std::min<uint64_t>(begin + shape.block_k, shape.k);
        decode_block(weights, (end - begin + 1) / 2, decoded);
        const decoded_part part{decoded, *scale * simd_f8_factor, begin, end};
        for_row_blocks(rows, [&]<uint32_t count>(uint32_t row) { add_decoded<count>(part, x + row, sums.at + row); });
    }
}

} // namespace

void multiply_tiles(const tile_shape& shape, const tile_weights* tiles, uint32_t tile_total, const float* const* x,
                    uint32_t rows, tile_sums* sums) {
    if constexpr (simd_has_bf16_dot)
        if (shape.format == tile_format::bf16_dot || shape.format == tile_format::f8_dot)
            return multiply_tiles_dot(shape, tiles, tile_total, x, rows, sums);
    const bool decodes =
        shape.format == tile_format::f8_wide && rows > simd_block_rows && shape.block_k <= decoded_k_max;
    for (uint32_t t = 0; t < tile_total; ++t) {
        if (decodes)
            multiply_decoded(shape, tiles[t], x, rows, sums[t]);
        else
            for_row_blocks(rows, [&]<uint32_t count>(uint32_t row) {
                multiply_rows<count>(shape, tiles[t], x + row, sums[t].at + row);
            });
    }
}

} // namespace moira
