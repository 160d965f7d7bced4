// Products of few rows by BF16 dot instructions: AVX-512 only. Memory is the limit here, so a tile's weights are one
// stream that nothing interrupts: activations are rounded once for all tiles of the pass, sums stay in registers, and
// what comes stream_ahead_bytes later is fetched meanwhile. The order of additions is that of tile_dot.cpp.
#include "kernels/x86/tile_product.hpp"

#include <iterator>

#if defined(__AVX512BF16__)

namespace moira {

namespace {

constexpr uint32_t vectors = 4; // of 16 columns
constexpr uint64_t bf16_row_bytes = tile_columns * 4;
constexpr uint64_t f8_row_bytes = tile_columns * 2;

// Activations of K are rounded that many at a time: a row's 8 KiB stay in the first cache beside the stream, six rows'
// 48 KiB in the second. Longer K comes in several runs per tile of half a megabyte each, long enough for one stream.
constexpr uint32_t stream_k = 4096;

// How far ahead weights are fetched. One core draws up to 43 GB/s and a line takes about 100 ns to come: 4.3 KiB are
// under way; half as much again leaves room for jitter. (Measured: 2 KiB lose 8 %, 16 KiB lose 6 %.) Hardware prefetch
// alone stops at each 4 KiB page.
constexpr uint64_t stream_ahead_bytes = 6144;

struct alignas(64) staged_rows {
    uint32_t pairs[stream_rows_max][stream_k / 2];
};

// Consecutive pair rows of a tile, and where the stream goes on behind the tile.
struct weight_run {
    const char* data;
    uint32_t pairs;
    uint64_t left_bytes; // from data to the end of the tile
    const char* next;

    // What to fetch while the pair row at `offset` bytes of the run is multiplied.
    const char* ahead(uint64_t offset) const {
        const uint64_t place = offset + stream_ahead_bytes;
        return place < left_bytes ? data + place : next + (place - left_bytes);
    }
};

// Pair rows per look at where the stream goes: a block of scales, and 16 KiB of BF16.
constexpr uint32_t run_pairs = 64;

void stage(const float* const* x, uint32_t rows, uint64_t begin, uint32_t count, staged_rows& staged) {
    for (uint32_t r = 0; r < rows; ++r)
        for (uint32_t i = 0; i < count; i += 32)
            simd_round_to_bf16(x[r] + begin + i, std::min(32u, count - i), staged.pairs[r] + i / 2);
}

// sums += pair rows [begin, end) times activations; `load` gives a pair row's four vectors, `lines` of 64 bytes each.
template <uint32_t rows, uint32_t lines, class Load>
inline void add_pairs(simd_float (&sums)[rows][vectors], const weight_run& run, uint32_t begin, uint32_t end,
                      const staged_rows& x, const Load& load) {
    const char* weights = run.data + uint64_t{begin} * lines * 64;
    const char* ahead = run.ahead(uint64_t{begin} * lines * 64);
    for (uint32_t pair = begin; pair < end; ++pair, weights += lines * 64, ahead += lines * 64) {
        __m512i columns[vectors];
        load(weights, columns);
#pragma GCC unroll 4
        for (uint32_t line = 0; line < lines; ++line)
            _mm_prefetch(ahead + line * 64, _MM_HINT_T0);
#pragma GCC unroll 8
        for (uint32_t r = 0; r < rows; ++r) {
            const __m512i activation = _mm512_set1_epi32(int(x.pairs[r][pair]));
#pragma GCC unroll 4
            for (uint32_t v = 0; v < vectors; ++v)
                sums[r][v] = simd_bf16_dot(sums[r][v], columns[v], activation);
        }
    }
}

template <uint32_t rows>
void stream_bf16(const weight_run& run, const staged_rows& x, bool first, float (*out)[tile_columns]) {
    simd_float sums[rows][vectors];
#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v)
            sums[r][v] = first ? simd_zero() : simd_load(out[r] + v * simd_lanes);
    const auto load = [](const char* weights, __m512i(&columns)[vectors]) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v)
            columns[v] = _mm512_loadu_si512(weights + v * 64);
    };
    for (uint32_t begin = 0; begin < run.pairs; begin += run_pairs)
        add_pairs<rows, 4>(sums, run, begin, std::min(begin + run_pairs, run.pairs), x, load);
#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; ++v)
            simd_store(out[r] + v * simd_lanes, sums[r][v]);
}

// total += partial sums of each block of scales * its scale.
template <uint32_t rows>
void stream_f8(const weight_run& run, const staged_rows& x, const float* scales, uint32_t block_pairs, bool first,
               float (*out)[tile_columns]) {
    const simd_f8_tables tables = simd_f8_load_tables();
    const auto load = [&tables](const char* weights, __m512i(&columns)[vectors]) {
        simd_f8_to_bf16(tables, weights, columns[0], columns[1]);
        simd_f8_to_bf16(tables, weights + 64, columns[2], columns[3]);
    };
    for (uint32_t begin = 0; begin < run.pairs; begin += block_pairs, ++scales) {
        simd_float partial[rows][vectors];
#pragma GCC unroll 8
        for (auto& row : partial)
#pragma GCC unroll 4
            for (simd_float& sum : row)
                sum = simd_zero();
        add_pairs<rows, 2>(partial, run, begin, std::min(begin + block_pairs, run.pairs), x, load);
        const simd_float scale = simd_set(*scales);
        const bool starts = first && begin == 0;
#pragma GCC unroll 8
        for (uint32_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
            for (uint32_t v = 0; v < vectors; ++v) {
                float* total = out[r] + v * simd_lanes;
                simd_store(total, simd_multiply_add(partial[r][v], scale, starts ? simd_zero() : simd_load(total)));
            }
    }
}

using bf16_function = void (*)(const weight_run&, const staged_rows&, bool, float (*)[tile_columns]);
constexpr bf16_function bf16_of_rows[] = {nullptr,        stream_bf16<1>, stream_bf16<2>, stream_bf16<3>,
                                          stream_bf16<4>, stream_bf16<5>, stream_bf16<6>};
static_assert(std::size(bf16_of_rows) == stream_rows_max + 1);

// 5 tables and masks leave no room for the sums of more rows (16 + 4 weights + 5 + a decode of 4).
using f8_function = void (*)(const weight_run&, const staged_rows&, const float*, uint32_t, bool,
                             float (*)[tile_columns]);
constexpr f8_function f8_of_rows[] = {nullptr, stream_f8<1>, stream_f8<2>, stream_f8<3>, stream_f8<4>};

} // namespace

bool streams_tiles(const tile_shape& shape, uint32_t rows) {
    if (shape.format == tile_format::bf16_dot)
        return rows <= stream_rows_max;
    return shape.format == tile_format::f8_dot && rows < std::size(f8_of_rows) && stream_k % shape.block_k == 0 &&
           shape.block_k % 2 == 0;
}

void stream_tiles(const tile_shape& shape, const tile_weights* tiles, uint32_t tile_total, const float* const* x,
                  uint32_t rows, tile_sums* sums) {
    const bool bf16 = shape.format == tile_format::bf16_dot;
    const uint64_t row_bytes = bf16 ? bf16_row_bytes : f8_row_bytes;
    staged_rows staged;
    for (uint64_t begin = 0; begin < shape.k; begin += stream_k) {
        const auto count = static_cast<uint32_t>(std::min<uint64_t>(stream_k, shape.k - begin));
        stage(x, rows, begin, count, staged);
        const uint64_t offset = begin / 2 * row_bytes;
        for (uint32_t t = 0; t < tile_total; ++t) {
            const weight_run run{tiles[t].data + offset, (count + 1) / 2, shape.tile_bytes - offset, tiles[t].next};
            if (bf16)
                bf16_of_rows[rows](run, staged, begin == 0, sums[t].at);
            else
                f8_of_rows[rows](run, staged, tiles[t].scales + begin / shape.block_k, shape.block_k / 2, begin == 0,
                                 sums[t].at);
        }
    }
}

} // namespace moira

#endif
