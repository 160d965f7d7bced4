// Products by BF16 dot instructions: AVX-512 only. K goes by chunks whose weights stay in the first cache while all
// rows of the pass meet them, 6 rows x 64 columns of sums in registers at a time. Per column the products are added
// pair by pair in K order, whatever the number of rows: sums that wait in memory between chunks keep their bits.
#include "kernels/x86/tile_product.hpp"

#include <iterator>

#if defined(__AVX512BF16__)

namespace moira {

namespace {

// 64 pairs: 16 KiB of BF16 weights beside 12 KiB of activations and 12 KiB of sums fit 48 KiB of first cache,
// nearly 32. It is also the usual block of scales.
constexpr uint32_t chunk_k = 128;
constexpr uint32_t chunk_pairs = chunk_k / 2;
constexpr uint32_t vectors = 4; // of 16 columns
constexpr uint64_t bf16_row_bytes = tile_columns * 4;
constexpr uint64_t f8_row_bytes = tile_columns * 2;

// Up to this many rows F8 is decoded in registers, once per row block; 5 tables and masks leave no room for more sums
// (16 + 4 weights + 5 + a decode of 4). Above, it is decoded once into a scratch of 16 KiB.
constexpr uint32_t f8_register_rows = 4;

// How far ahead weights are fetched. One core draws up to 30 GB/s and a line takes about 100 ns to come: 3 KiB are
// under way; the double leaves room for the neighbour's share of the bus. Hardware prefetch alone stops at each 4 KiB
// page.
constexpr uint64_t prefetch_bytes = 6144;

// Rounded activations of one chunk.
struct alignas(64) staged_rows {
    uint32_t pairs[pass_rows][chunk_pairs];
};

void stage(const float* const* x, uint32_t rows, uint64_t begin, uint32_t count, staged_rows& staged) {
    for (uint32_t r = 0; r < rows; ++r)
        for (uint32_t i = 0; i < count; i += 32)
            simd_round_to_bf16(x[r] + begin + i, std::min(32u, count - i), staged.pairs[r] + i / 2);
}

// What one call of a register block does: pairs of one chunk, from the start of a sum or going on with it.
struct chunk_work {
    const char* weights;
    uint32_t pairs;
    bool first; // sums begin at 0
};

inline void prefetch_lines(const char* address, uint32_t lines) {
    for (uint32_t line = 0; line < lines; ++line)
        _mm_prefetch(address + line * 64, _MM_HINT_T0);
}

// load(pair, weights) gives the four vectors of a pair row.
template <uint32_t rows, class Load>
inline void add_chunk(const chunk_work& work, const uint32_t (*activations)[chunk_pairs], float (*out)[tile_columns],
                      const Load& load) {
    simd_float sums[rows][vectors];
#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v)
            sums[r][v] = work.first ? simd_zero() : simd_load(out[r] + v * simd_lanes);
    for (uint32_t pair = 0; pair < work.pairs; ++pair) {
        __m512i weights[vectors];
        load(pair, weights);
#pragma GCC unroll 8
        for (uint32_t r = 0; r < rows; ++r) {
            const __m512i activation = _mm512_set1_epi32(int(activations[r][pair]));
#pragma GCC unroll 4
            for (uint32_t v = 0; v < vectors; ++v)
                sums[r][v] = simd_bf16_dot(sums[r][v], weights[v], activation);
        }
    }
#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v)
            simd_store(out[r] + v * simd_lanes, sums[r][v]);
}

// fetch: weights come from memory, and what follows them is fetched ahead.
template <bool fetch, uint32_t rows>
void add_bf16(const chunk_work& work, const uint32_t (*activations)[chunk_pairs], float (*out)[tile_columns]) {
    add_chunk<rows>(work, activations, out, [&work](uint32_t pair, __m512i(&weights)[vectors]) {
        const char* row = work.weights + pair * bf16_row_bytes;
        if constexpr (fetch)
            prefetch_lines(row + prefetch_bytes, 4);
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v)
            weights[v] = _mm512_loadu_si512(row + v * 64);
    });
}

inline void decode_row(const simd_f8_tables& tables, const char* row, __m512i (&weights)[vectors]) {
    prefetch_lines(row + prefetch_bytes, 2);
    simd_f8_to_bf16(tables, row, weights[0], weights[1]);
    simd_f8_to_bf16(tables, row + 64, weights[2], weights[3]);
}

template <uint32_t rows>
void add_f8(const chunk_work& work, const uint32_t (*activations)[chunk_pairs], float (*out)[tile_columns]) {
    const simd_f8_tables tables = simd_f8_load_tables();
    add_chunk<rows>(work, activations, out, [&](uint32_t pair, __m512i(&weights)[vectors]) {
        decode_row(tables, work.weights + pair * f8_row_bytes, weights);
    });
}

using add_function = void (*)(const chunk_work&, const uint32_t (*)[chunk_pairs], float (*)[tile_columns]);
constexpr add_function add_bf16_fetching[] = {nullptr,           add_bf16<true, 1>, add_bf16<true, 2>,
                                              add_bf16<true, 3>, add_bf16<true, 4>, add_bf16<true, 5>,
                                              add_bf16<true, 6>};
constexpr add_function add_bf16_cached[] = {nullptr,
                                            add_bf16<false, 1>,
                                            add_bf16<false, 2>,
                                            add_bf16<false, 3>,
                                            add_bf16<false, 4>,
                                            add_bf16<false, 5>,
                                            add_bf16<false, 6>};
constexpr add_function add_f8_registers[] = {nullptr, add_f8<1>, add_f8<2>, add_f8<3>, add_f8<4>};
static_assert(std::size(add_bf16_cached) == simd_block_rows + 1 && std::size(add_f8_registers) == f8_register_rows + 1);

// All rows of the pass; the first block of them brings the weights into the cache.
void add_rows_bf16(const chunk_work& work, bool fetch, const staged_rows& staged, uint32_t rows, tile_sums& sums) {
    for (uint32_t row = 0; row < rows; row += simd_block_rows) {
        const uint32_t count = std::min(simd_block_rows, rows - row);
        const auto* table = fetch && row == 0 ? add_bf16_fetching : add_bf16_cached;
        table[count](work, staged.pairs + row, sums.at + row);
    }
}

struct alignas(64) decoded_chunk {
    char bytes[chunk_pairs * bf16_row_bytes];
};

void add_rows_f8(const chunk_work& work, const staged_rows& staged, uint32_t rows, tile_sums& sums) {
    if (rows <= f8_register_rows)
        return add_f8_registers[rows](work, staged.pairs, sums.at);
    decoded_chunk decoded;
    const simd_f8_tables tables = simd_f8_load_tables();
    for (uint32_t pair = 0; pair < work.pairs; ++pair) {
        __m512i weights[vectors];
        decode_row(tables, work.weights + pair * f8_row_bytes, weights);
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v)
            _mm512_store_si512(decoded.bytes + pair * bf16_row_bytes + v * 64, weights[v]);
    }
    add_rows_bf16({decoded.bytes, work.pairs, work.first}, false, staged, rows, sums);
}

void multiply_bf16(const tile_shape& shape, const tile_weights* tiles, uint32_t tile_total, const float* const* x,
                   uint32_t rows, tile_sums* sums) {
    staged_rows staged;
    for (uint64_t begin = 0; begin < shape.k; begin += chunk_k) {
        const auto count = static_cast<uint32_t>(std::min<uint64_t>(chunk_k, shape.k - begin));
        stage(x, rows, begin, count, staged);
        for (uint32_t t = 0; t < tile_total; ++t)
            add_rows_bf16({tiles[t].data + begin / 2 * bf16_row_bytes, (count + 1) / 2, begin == 0}, true, staged, rows,
                          sums[t]);
    }
}

// sums = sums + partial * scale, from 0 in the first block.
void fold(const tile_sums& partial, float scale, bool first, uint32_t rows, tile_sums& sums) {
    const simd_float factor = simd_set(scale);
    for (uint32_t r = 0; r < rows; ++r)
        for (uint32_t v = 0; v < tile_columns; v += simd_lanes) {
            const simd_float before = first ? simd_zero() : simd_load(sums.at[r] + v);
            simd_store(sums.at[r] + v, simd_multiply_add(simd_load(partial.at[r] + v), factor, before));
        }
}

// A block of scales longer than a chunk goes by several chunks, whose partial sums stay in memory; a shorter one is a
// chunk of its own.
void multiply_f8(const tile_shape& shape, const tile_weights* tiles, uint32_t tile_total, const float* const* x,
                 uint32_t rows, tile_sums* sums) {
    staged_rows staged;
    tile_sums partial[pass_tiles];
    for (uint64_t block = 0; block * shape.block_k < shape.k; ++block) {
        const uint64_t block_begin = block * shape.block_k;
        const uint64_t block_end = std::min<uint64_t>(block_begin + shape.block_k, shape.k);
        const uint64_t block_pairs = block * ((uint64_t{shape.block_k} + 1) / 2);
        for (uint64_t begin = block_begin; begin < block_end; begin += chunk_k) {
            const auto count = static_cast<uint32_t>(std::min<uint64_t>(chunk_k, block_end - begin));
            stage(x, rows, begin, count, staged);
            const uint64_t offset = (block_pairs + (begin - block_begin) / 2) * f8_row_bytes;
            for (uint32_t t = 0; t < tile_total; ++t)
                add_rows_f8({tiles[t].data + offset, (count + 1) / 2, begin == block_begin}, staged, rows, partial[t]);
        }
        for (uint32_t t = 0; t < tile_total; ++t)
            fold(partial[t], tiles[t].scales[block], block == 0, rows, sums[t]);
    }
}

} // namespace

void multiply_tiles_dot(const tile_shape& shape, const tile_weights* tiles, uint32_t tile_total, const float* const* x,
                        uint32_t rows, tile_sums* sums) {
    if (shape.format == tile_format::bf16_dot)
        multiply_bf16(shape, tiles, tile_total, x, rows, sums);
    else
        multiply_f8(shape, tiles, tile_total, x, rows, sums);
}

} // namespace moira

#endif
