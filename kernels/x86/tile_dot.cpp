// Products by BF16 dot instructions: AVX-512 only. Few rows go by tile_stream.cpp; here K goes by chunks whose weights
// stay in the first cache while all rows of the pass meet them, 6 rows x 64 columns of sums in registers at a time. Per
// column the products are added pair by pair in K order, whatever the number of rows: sums that wait in memory between
// chunks keep their bits.
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

// Rounded activations of one chunk.
struct alignas(64) staged_rows {
    uint32_t pairs[pass_rows][chunk_pairs];
};

// Also asks for the next chunk of each row: runs of 512 bytes are too short for hardware prefetch.
void stage(const float* const* x, uint32_t rows, uint64_t begin, uint32_t count, staged_rows& staged) {
    for (uint32_t r = 0; r < rows; ++r)
        for (uint32_t i = 0; i < count; i += 32) {
            const float* from = x[r] + begin + i;
            _mm_prefetch(from + chunk_k, _MM_HINT_T0);
            _mm_prefetch(from + chunk_k + 16, _MM_HINT_T0);
            simd_round_to_bf16(from, std::min(32u, count - i), staged.pairs[r] + i / 2);
        }
}

// What becomes of a chunk's sums. BF16: one sum over all of K. F8: a partial sum per block of scales, and when the
// block is complete total += partial * scale.
struct chunk_sums {
    float (*sums)[tile_columns];
    float (*totals)[tile_columns]; // F8 only
    const float* scale;            // nullptr: the block goes on
    bool first;                    // sums begin at 0, not at what is there
    bool first_block;              // totals do

    chunk_sums from_row(uint32_t row) const {
        return {sums + row, totals ? totals + row : nullptr, scale, first, first_block};
    }
};

// What one call of a register block does. ahead: weights to fetch meanwhile, as many lines per pair as the function
// says.
struct chunk_work {
    const char* weights;
    const char* ahead;
    uint32_t pairs;
};

template <uint32_t rows>
inline void store_sums(const simd_float (&sums)[rows][vectors], const chunk_sums& out) {
    if (!out.scale) {
#pragma GCC unroll 8
        for (uint32_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
            for (uint32_t v = 0; v < vectors; ++v)
                simd_store(out.sums[r] + v * simd_lanes, sums[r][v]);
        return;
    }
    const simd_float scale = simd_set(*out.scale);
#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v) {
            float* total = out.totals[r] + v * simd_lanes;
            simd_store(total, simd_multiply_add(sums[r][v], scale, out.first_block ? simd_zero() : simd_load(total)));
        }
}

template <uint32_t rows, uint32_t lines>
void add_bf16(const chunk_work& work, const uint32_t (*activations)[chunk_pairs], const chunk_sums& out) {
    simd_float sums[rows][vectors];
#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v)
            sums[r][v] = out.first ? simd_zero() : simd_load(out.sums[r] + v * simd_lanes);
    for (uint32_t pair = 0; pair < work.pairs; ++pair) {
        __m512i weights[vectors];
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v)
            weights[v] = _mm512_loadu_si512(work.weights + pair * bf16_row_bytes + v * 64);
#pragma GCC unroll 4
        for (uint32_t line = 0; line < lines; ++line)
            _mm_prefetch(work.ahead + (pair * lines + line) * 64, _MM_HINT_T0);
#pragma GCC unroll 8
        for (uint32_t r = 0; r < rows; ++r) {
            const __m512i activation = _mm512_set1_epi32(int(activations[r][pair]));
#pragma GCC unroll 4
            for (uint32_t v = 0; v < vectors; ++v)
                sums[r][v] = simd_bf16_dot(sums[r][v], weights[v], activation);
        }
    }
    store_sums<rows>(sums, out);
}

inline void decode_row(const simd_f8_tables& tables, const char* row, __m512i (&weights)[vectors]) {
    simd_f8_to_bf16(tables, row, weights[0], weights[1]);
    simd_f8_to_bf16(tables, row + 64, weights[2], weights[3]);
}

using add_function = void (*)(const chunk_work&, const uint32_t (*)[chunk_pairs], const chunk_sums&);
template <uint32_t lines>
constexpr add_function add_bf16_of_rows[] = {nullptr,
                                             add_bf16<1, lines>,
                                             add_bf16<2, lines>,
                                             add_bf16<3, lines>,
                                             add_bf16<4, lines>,
                                             add_bf16<5, lines>,
                                             add_bf16<6, lines>};
static_assert(std::size(add_bf16_of_rows<0>) == simd_block_rows + 1);

// Where a chunk's weights lie within their tile.
struct chunk_place {
    const tile_weights& tile;
    uint64_t tile_bytes;
    uint64_t offset;
    uint64_t row_bytes;
    uint32_t pairs;
};

// Several row blocks: the first two to four fetch the next chunk, in equal parts, while the cached one is multiplied.
void add_row_blocks(const chunk_work& work, uint32_t ahead_lines, const staged_rows& staged, uint32_t rows,
                    const chunk_sums& out) {
    const uint32_t blocks = (rows + simd_block_rows - 1) / simd_block_rows;
    const uint32_t lines = ahead_lines <= blocks ? 1 : 2; // per pair and block
    uint32_t row = 0;
    for (uint32_t block = 0; block < blocks; ++block) {
        const uint32_t count = (rows - row + blocks - block - 1) / (blocks - block); // as equal as can be
        chunk_work part = work;
        part.ahead += uint64_t{block} * lines * work.pairs * 64;
        const bool fetches = block * lines < ahead_lines;
        const auto add = !fetches     ? add_bf16_of_rows<0>[count]
                         : lines == 1 ? add_bf16_of_rows<1>[count]
                                      : add_bf16_of_rows<2>[count];
        add(part, staged.pairs + row, out.from_row(row));
        row += count;
    }
}

// The chunk after this one: in the tile, or in the next tile.
const char* chunk_after(const chunk_place& place) {
    const uint64_t end = place.offset + place.pairs * place.row_bytes;
    return end < place.tile_bytes ? place.tile.data + end : place.tile.next;
}

void add_rows_bf16(const chunk_place& place, const staged_rows& staged, uint32_t rows, const chunk_sums& out) {
    const char* weights = place.tile.data + place.offset;
    add_row_blocks({weights, chunk_after(place), place.pairs}, 4, staged, rows, out);
}

struct alignas(64) decoded_chunk {
    char bytes[chunk_pairs * bf16_row_bytes];
};

void add_rows_f8(const chunk_place& place, const staged_rows& staged, uint32_t rows, const chunk_sums& out) {
    decoded_chunk decoded;
    const simd_f8_tables tables = simd_f8_load_tables();
    for (uint32_t pair = 0; pair < place.pairs; ++pair) {
        __m512i weights[vectors];
        decode_row(tables, place.tile.data + place.offset + pair * f8_row_bytes, weights);
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v)
            _mm512_store_si512(decoded.bytes + pair * bf16_row_bytes + v * 64, weights[v]);
    }
    add_row_blocks({decoded.bytes, chunk_after(place), place.pairs}, 2, staged, rows, out);
}

void multiply_bf16(const tile_shape& shape, const tile_weights* tiles, uint32_t tile_total, const float* const* x,
                   uint32_t rows, tile_sums* sums) {
    staged_rows staged;
    for (uint64_t begin = 0; begin < shape.k; begin += chunk_k) {
        const auto count = static_cast<uint32_t>(std::min<uint64_t>(chunk_k, shape.k - begin));
        stage(x, rows, begin, count, staged);
        for (uint32_t t = 0; t < tile_total; ++t)
            add_rows_bf16({tiles[t], shape.tile_bytes, begin / 2 * bf16_row_bytes, bf16_row_bytes, (count + 1) / 2},
                          staged, rows, {sums[t].at, nullptr, nullptr, begin == 0, false});
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
                add_rows_f8({tiles[t], shape.tile_bytes, offset, f8_row_bytes, (count + 1) / 2}, staged, rows,
                            {partial[t].at, sums[t].at, begin + count == block_end ? tiles[t].scales + block : nullptr,
                             begin == block_begin, block == 0});
        }
    }
}

} // namespace

void multiply_tiles_dot(const tile_shape& shape, const tile_weights* tiles, uint32_t tile_total, const float* const* x,
                        uint32_t rows, tile_sums* sums) {
    if (streams_tiles(shape, rows))
        return stream_tiles(shape, tiles, tile_total, x, rows, sums);
    const auto multiply = shape.format == tile_format::bf16_dot ? multiply_bf16 : multiply_f8;
    if (rows > single_stream_rows)
        return multiply(shape, tiles, tile_total, x, rows, sums);
    for (uint32_t t = 0; t < tile_total; ++t)
        multiply(shape, tiles + t, 1, x, rows, sums + t);
}

} // namespace moira

#endif
