// Packing runs on any processor: it is compiled without vector flags.
#include "kernels/x86/tile_packing.hpp"

#include "kernels/float_formats.hpp"
#include "kernels/x86/tile_transpose.hpp"
#include "kernels/x86/x86_kernels.hpp"

#include <algorithm>
#include <cstring>

namespace moira {

namespace {

// Elements of K that are packed at a time: the part of a tile that is being written (16 KiB of BF16) stays in the first
// cache while each of its 64 source rows gives 4 lines. A multiple of what the transposes take.
constexpr uint32_t k_chunk = 128;

// Calls function(column, k_begin, k_end) for every source row within one tile, chunk by chunk.
template <class Function>
void for_tile_chunks(uint32_t columns, uint32_t k, const Function& function) {
    for (uint32_t begin = 0; begin < k; begin += k_chunk)
        for (uint32_t column = 0; column < columns; ++column)
            function(column, begin, std::min(begin + k_chunk, k));
}

uint32_t source_element_bytes(uint32_t weight_type) {
    return weight_type == MOIRA_TYPE_F32 ? 4 : weight_type == MOIRA_TYPE_F8_E4M3 ? 1 : 2;
}

// Place of an element within its tile.
uint64_t element_offset(const moira_quantization& quantization, uint32_t column, uint32_t k) {
    switch (quantization.weight_type) {
    case MOIRA_TYPE_BF16:
        return (uint64_t{k} / 2 * tile_columns + column) * 4 + k % 2 * 2;
    case MOIRA_TYPE_F8_E4M3:
        return f8_pairs_before(k, quantization.block_k) * tile_columns * 2 + f8_pair_offset(column) +
               k % quantization.block_k % 2;
    default:
        return (uint64_t{k} * tile_columns + column) * 4;
    }
}

void pack_element(uint32_t weight_type, const char* source, char* target) {
    if (weight_type == MOIRA_TYPE_F16) {
        uint16_t bits;
        std::memcpy(&bits, source, sizeof bits);
        const float wide = f16_to_float(bits);
        std::memcpy(target, &wide, sizeof wide);
    } else {
        std::memcpy(target, source, source_element_bytes(weight_type));
    }
}

void unpack_element(uint32_t weight_type, const char* source, char* target) {
    if (weight_type == MOIRA_TYPE_F16) {
        float wide;
        std::memcpy(&wide, source, sizeof wide);
        const uint16_t bits = exact_float_to_f16(wide);
        std::memcpy(target, &bits, sizeof bits);
    } else {
        std::memcpy(target, source, source_element_bytes(weight_type));
    }
}

// A source matrix, in elements of its own type.
struct source_matrix {
    const char* weight;
    uint64_t row_stride;
    uint64_t column_stride;
};

// Where one tile's columns begin, and how many there are.
struct tile_target {
    char* tile;
    uint64_t first_column;
    uint32_t columns;
};

void pack_elements(const moira_quantization& quantization, const source_matrix& source, const tile_target& target,
                   uint32_t column, uint32_t begin, uint32_t end) {
    const uint32_t element = source_element_bytes(quantization.weight_type);
    const char* row = source.weight + (target.first_column + column) * source.row_stride * element;
    for (uint32_t i = begin; i < end; ++i)
        pack_element(quantization.weight_type, row + i * source.column_stride * element,
                     target.tile + element_offset(quantization, column, i));
}

// Asks for the next chunk of the rows: hardware prefetch does not follow 64 streams.
void fetch_rows(const char* rows, uint64_t row_bytes, uint32_t columns, uint32_t chunk_bytes) {
    for (uint32_t column = 0; column < columns; ++column)
        for (uint32_t line = 0; line < chunk_bytes; line += 64)
            __builtin_prefetch(rows + column * row_bytes + chunk_bytes + line);
}

// BF16 pairs or float32 of a chunk, four columns and four words at a time. Returns how far in K and in columns it came.
struct packed_part {
    uint32_t end;
    uint32_t columns;
};
packed_part pack_words(const moira_quantization& quantization, const source_matrix& source, const tile_target& target,
                       uint32_t begin, uint32_t end) {
    const uint32_t element = source_element_bytes(quantization.weight_type);
    const uint32_t step = 16 / element;
    const uint64_t row_bytes = source.row_stride * element;
    const char* rows = source.weight + target.first_column * row_bytes + uint64_t{begin} * element;
    fetch_rows(rows, row_bytes, target.columns, k_chunk * element);
    const packed_part part{begin + (end - begin) / step * step, target.columns / 4 * 4};
    for (uint32_t column = 0; column < part.columns; column += 4)
        for (uint32_t i = begin; i < part.end; i += step)
            transpose_words(rows + column * row_bytes + uint64_t{i - begin} * element, row_bytes,
                            target.tile + element_offset(quantization, column, i));
    return part;
}

// E4M3, of a whole tile whose pairs do not end early: 4 + 4 columns and 8 pairs at a time.
packed_part pack_f8(const moira_quantization& quantization, const source_matrix& source, const tile_target& target,
                    uint32_t begin, uint32_t end) {
    const char* rows = source.weight + target.first_column * source.row_stride + begin;
    fetch_rows(rows, source.row_stride, target.columns, k_chunk);
    const packed_part part{begin + (end - begin) / 16 * 16, target.columns};
    for (uint32_t half = 0; half < tile_columns; half += 32)
        for (uint32_t column = half; column < half + 16; column += 4)
            for (uint32_t i = begin; i < part.end; i += 16)
                transpose_f8(rows + column * source.row_stride + (i - begin), source.row_stride,
                             target.tile + element_offset(quantization, column, i));
    return part;
}

void pack_chunk(const moira_quantization& quantization, const source_matrix& source, const tile_target& target,
                uint32_t begin, uint32_t end) {
    const uint32_t type = quantization.weight_type;
    packed_part part{begin, 0};
    if (source.column_stride == 1 && (type == MOIRA_TYPE_BF16 || type == MOIRA_TYPE_F32))
        part = pack_words(quantization, source, target, begin, end);
    else if (source.column_stride == 1 && type == MOIRA_TYPE_F8_E4M3 && quantization.block_k % 2 == 0 &&
             target.columns == tile_columns)
        part = pack_f8(quantization, source, target, begin, end);
    for (uint32_t column = 0; column < target.columns; ++column)
        pack_elements(quantization, source, target, column, column < part.columns ? part.end : begin, end);
}

// Whether some pair of K lacks its second.
bool has_empty_seconds(const moira_quantization& quantization, uint32_t k) {
    return k % 2 == 1 || (quantization.weight_type == MOIRA_TYPE_F8_E4M3 && quantization.block_k % 2 == 1);
}

uint64_t scale_count(const moira_quantization& quantization, uint32_t n, uint32_t k) {
    if (quantization.scale_mode != MOIRA_SCALE_BLOCK)
        return 0;
    return round_up(n, quantization.block_n) / quantization.block_n *
           (round_up(k, quantization.block_k) / quantization.block_k);
}

uint64_t tiles_bytes(const moira_quantization& quantization, uint32_t n, uint32_t k) {
    return tile_count(n) * tile_bytes(quantization, k);
}

uint64_t matrix_bytes(const moira_quantization& quantization, uint32_t n, uint32_t k) {
    return tiles_bytes(quantization, n, k) + round_up(scale_count(quantization, n, k) * sizeof(float), 64);
}

void pack_matrix(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* weight,
                 uint64_t row_stride, uint64_t column_stride, const void* scales, void* packed) {
    const source_matrix source{static_cast<const char*>(weight), row_stride, column_stride};
    const uint64_t bytes = tile_bytes(quantization, k);
    for (uint64_t t = 0; t < tile_count(n); ++t) {
        const uint64_t first = t * tile_columns;
        const tile_target target{static_cast<char*>(packed) + t * bytes, first,
                                 static_cast<uint32_t>(std::min<uint64_t>(tile_columns, n - first))};
        if (target.columns < tile_columns || has_empty_seconds(quantization, k))
            std::memset(target.tile, 0, bytes);
        for (uint32_t begin = 0; begin < k; begin += k_chunk)
            pack_chunk(quantization, source, target, begin, std::min(begin + k_chunk, k));
    }
    char* tail = static_cast<char*>(packed) + tiles_bytes(quantization, n, k);
    const uint64_t count = scale_count(quantization, n, k);
    if (count == 0)
        return;
    std::memset(tail, 0, round_up(count * sizeof(float), 64));
    std::memcpy(tail, scales, count * sizeof(float));
}

void unpack_matrix(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* packed, void* weight,
                   uint64_t row_stride, uint64_t column_stride) {
    const uint32_t type = quantization.weight_type;
    const uint32_t element = source_element_bytes(type);
    const uint64_t bytes = tile_bytes(quantization, k);
    for (uint64_t t = 0; t < tile_count(n); ++t) {
        const char* tile = static_cast<const char*>(packed) + t * bytes;
        const auto columns = static_cast<uint32_t>(std::min<uint64_t>(tile_columns, n - t * tile_columns));
        for_tile_chunks(columns, k, [&](uint32_t column, uint32_t begin, uint32_t end) {
            char* row = static_cast<char*>(weight) + (t * tile_columns + column) * row_stride * element;
            for (uint32_t i = begin; i < end; ++i)
                unpack_element(type, tile + element_offset(quantization, column, i), row + i * column_stride * element);
        });
    }
}

} // namespace

bool tile_weight_supported(const moira_quantization& quantization) {
    if (quantization.activation != MOIRA_ACTIVATION_KEEP)
        return false;
    switch (quantization.weight_type) {
    case MOIRA_TYPE_F32:
    case MOIRA_TYPE_BF16:
    case MOIRA_TYPE_F16:
        return quantization.scale_mode == MOIRA_SCALE_NONE;
    case MOIRA_TYPE_F8_E4M3: // a tile must not cross a block of scales
        return quantization.scale_mode == MOIRA_SCALE_BLOCK && quantization.scale_type == MOIRA_TYPE_F32 &&
               quantization.block_n > 0 && quantization.block_n % tile_columns == 0 && quantization.block_k > 0;
    default:
        return false;
    }
}

packing_kernels tile_packing() {
    return {layout_base_tiles, matrix_bytes, pack_matrix, unpack_matrix};
}

} // namespace moira
