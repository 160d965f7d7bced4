// gemm and expert_ffn over tiles.
#include "kernels/op_plan.hpp"
#include "kernels/x86/tile_product.hpp"
#include "kernels/x86/x86_kernels.hpp"

#include <utility>

namespace moira {

namespace {

// Rows [row, row + rows) of the tiles [tile, tile + tiles).
struct pass {
    uint64_t tile;
    uint32_t tiles;
    uint64_t row;
    uint32_t rows;
};

// Units are numbered tile * rows + row. Work goes by passes of up to pass_rows rows over up to tiles_max tiles; rows
// that are passed together over one tile belong to whose share holds the first of them, so that no tile is read twice
// for few rows.
template <class Function>
void for_passes(uint64_t begin, uint64_t end, uint64_t rows, uint32_t tiles_max, const Function& function) {
    uint64_t tile = begin / rows;
    uint64_t first_row = round_up(begin % rows, pass_rows);
    if (first_row >= rows) {
        ++tile;
        first_row = 0;
    }
    while (tile * rows + first_row < end) {
        // Tiles of which the share holds all rows go together.
        const uint64_t whole = first_row == 0 ? end / rows - std::min(end / rows, tile) : 0;
        const auto tiles = static_cast<uint32_t>(std::clamp<uint64_t>(whole, 1, tiles_max));
        for (uint64_t row = first_row; row < rows && tile * rows + row < end; row += pass_rows)
            function(pass{tile, tiles, row, static_cast<uint32_t>(std::min<uint64_t>(pass_rows, rows - row))});
        tile += tiles;
        first_row = 0;
    }
}

uint32_t columns_of_tile(uint64_t tile, uint32_t n) {
    return static_cast<uint32_t>(std::min<uint64_t>(tile_columns, n - tile * tile_columns));
}

void multiply_pass(const tile_matrix& matrix, const pass& part, const float* const* x, tile_sums* sums) {
    tile_weights tiles[pass_tiles];
    for (uint32_t t = 0; t < part.tiles; ++t)
        tiles[t] = matrix.at(part.tile + t, part.rows <= single_stream_rows ? 1 : part.tiles);
    multiply_tiles(matrix.shape, tiles, part.tiles, x, part.rows, sums);
}

// One tile's sums of one row to out: bias first, then what is there already.
void finish_row(const float* sums, uint32_t columns, const float* bias, bool accumulate, float* out) {
    for_vectors(columns, [&](uint32_t offset, uint32_t count) {
        simd_float value = simd_load(sums + offset);
        if (bias)
            value = simd_add(value, simd_load_some(bias + offset, count));
        if (accumulate)
            value = simd_add(simd_load_some(out + offset, count), value);
        simd_store_some(out + offset, value, count);
    });
}

simd_float activate(const moira_expert_ffn_desc& desc, simd_float gate, simd_float up) {
    if (desc.activation == MOIRA_FFN_SILU_GATED)
        return simd_multiply(simd_sigmoid_times(gate, simd_set(1.0f)), up);
    const simd_float limit = simd_set(desc.limit);
    gate = simd_minimum(limit, gate);
    up = simd_maximum(simd_set(-desc.limit), simd_minimum(limit, up));
    return simd_multiply(simd_sigmoid_times(gate, simd_set(desc.alpha)), simd_add(up, simd_set(1.0f)));
}

void activate_row(const moira_expert_ffn_desc& desc, const float* gate, const float* up, const float* gate_bias,
                  const float* up_bias, uint32_t columns, float* inner) {
    for_vectors(columns, [&](uint32_t offset, uint32_t count) {
        const simd_float g = simd_add(simd_load(gate + offset), simd_load_some(gate_bias + offset, count));
        const simd_float u = simd_add(simd_load(up + offset), simd_load_some(up_bias + offset, count));
        simd_store_some(inner + offset, activate(desc, g, u), count);
    });
}

// One group of pairs, and its expert's slab (nullptr: not readable, its outputs become 0).
struct group_work {
    const moira_expert_ffn_desc& desc;
    const moira_expert_ffn_args& args;
    const work_share& share;
    const expert_layout& layout;
    const moira_expert_pair* pairs;
    const char* slab;
    float* inner; // of the group's first pair
};

const float* floats_at(const char* slab, uint64_t offset) {
    return reinterpret_cast<const float*>(slab + offset);
}

// Sums of one tile of gate and of up to `inner`.
void activate_tile(const group_work& work, const pass& part, uint32_t tile, const tile_sums& gate,
                   const tile_sums& up) {
    const uint64_t column = (part.tile + tile) * tile_columns;
    for (uint32_t i = 0; i < part.rows; ++i)
        activate_row(work.desc, gate.at[i], up.at[i], floats_at(work.slab, work.layout.gate_bias) + column,
                     floats_at(work.slab, work.layout.up_bias) + column,
                     columns_of_tile(part.tile + tile, work.desc.inner),
                     work.inner + (part.row + i) * expert_inner_stride(work.desc) + column);
}

void gate_up_pass(const group_work& work, const pass& part) {
    if (!work.slab)
        return;
    const moira_expert_ffn_desc& desc = work.desc;
    const tile_matrix gate =
        tile_matrix_at(desc.quantization, MOIRA_COMPUTE_AUTO, desc.inner, desc.hidden, work.slab + work.layout.gate);
    const tile_matrix up =
        tile_matrix_at(desc.quantization, MOIRA_COMPUTE_AUTO, desc.inner, desc.hidden, work.slab + work.layout.up);
    const float* x[pass_rows] = {};
    for (uint32_t i = 0; i < part.rows; ++i)
        x[i] = work.args.x + uint64_t(work.pairs[part.row + i].row) * work.args.x_stride;
    tile_weights tiles[2][pass_tiles];
    for (uint32_t t = 0; t < part.tiles; ++t) {
        tiles[0][t] = gate.at(part.tile + t, 1);
        tiles[1][t] = up.at(part.tile + t, 1);
    }
    if (part.rows <= single_stream_rows) {
        // All gate tiles, then all up tiles: two long streams that lead into each other.
        tile_sums sums[2][pass_tiles];
        const uint32_t last = part.tiles - 1;
        tiles[1][last].next = std::exchange(tiles[0][last].next, tiles[1][0].data);
        for (uint32_t m = 0; m < 2; ++m)
            multiply_tiles(gate.shape, tiles[m], part.tiles, x, part.rows, sums[m]);
        for (uint32_t t = 0; t < part.tiles; ++t)
            activate_tile(work, part, t, sums[0][t], sums[1][t]);
        return;
    }
    // Both of a column together: they share the rounded activations.
    for (uint32_t t = 0; t < part.tiles; ++t) {
        const tile_weights both[] = {tiles[0][t], tiles[1][t]};
        tile_sums sums[2];
        multiply_tiles(gate.shape, both, 2, x, part.rows, sums);
        activate_tile(work, part, t, sums[0], sums[1]);
    }
}

void down_pass(const group_work& work, const pass& part) {
    const moira_expert_ffn_desc& desc = work.desc;
    const uint64_t first_column = part.tile * tile_columns;
    const uint64_t end_column = std::min<uint64_t>((part.tile + part.tiles) * tile_columns, desc.hidden);
    float* out[pass_rows];
    for (uint32_t i = 0; i < part.rows; ++i)
        out[i] = work.args.out + uint64_t(work.pairs[part.row + i].out_row) * work.args.out_stride;
    if (!work.slab) {
        for (uint32_t i = 0; i < part.rows; ++i)
            std::fill(out[i] + first_column, out[i] + end_column, 0.0f);
        return;
    }
    const tile_matrix down =
        tile_matrix_at(desc.quantization, MOIRA_COMPUTE_AUTO, desc.hidden, desc.inner, work.slab + work.layout.down);
    const float* x[pass_rows] = {};
    for (uint32_t i = 0; i < part.rows; ++i)
        x[i] = work.inner + (part.row + i) * expert_inner_stride(desc);
    tile_sums sums[pass_tiles];
    multiply_pass(down, part, x, sums);
    for (uint32_t t = 0; t < part.tiles; ++t) {
        const uint64_t column = (part.tile + t) * tile_columns;
        for (uint32_t i = 0; i < part.rows; ++i)
            finish_row(sums[t].at[i], columns_of_tile(part.tile + t, desc.hidden),
                       floats_at(work.slab, work.layout.down_bias) + column, false, out[i] + column);
    }
}

} // namespace

void x86_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const work_share& share) {
    const tile_matrix matrix = tile_matrix_at(desc.quantization, desc.compute, desc.n, desc.k, args.weight);
    for_passes(share.begin, share.end, args.rows, pass_tiles, [&](const pass& part) {
        const float* x[pass_rows] = {};
        for (uint32_t i = 0; i < part.rows; ++i)
            x[i] = args.x + (part.row + i) * args.x_stride;
        tile_sums sums[pass_tiles];
        multiply_pass(matrix, part, x, sums);
        for (uint32_t t = 0; t < part.tiles; ++t) {
            const uint64_t column = (part.tile + t) * tile_columns;
            const float* bias = desc.has_bias ? args.bias + column : nullptr;
            for (uint32_t i = 0; i < part.rows; ++i)
                finish_row(sums[t].at[i], columns_of_tile(part.tile + t, desc.n), bias, desc.accumulate != 0,
                           args.out + (part.row + i) * args.out_stride + column);
        }
    });
}

void x86_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args, const work_share& share) {
    const expert_layout layout = expert_layout_of(tile_packing(), desc.quantization, desc.hidden, desc.inner);
    const uint32_t layout_id = packed_layout_id(layout_base_tiles, MOIRA_PACK_EXPERT, desc.quantization);
    const uint64_t tiles = tile_count(share.phase == 0 ? desc.inner : desc.hidden);
    uint64_t group_begin = 0; // in units
    for (uint32_t index = 0; index < expert_group_count(args) && group_begin < share.end; ++index) {
        const moira_expert_group& group = args.group_table[index];
        const uint64_t units = tiles * group.pair_count;
        const uint64_t begin = std::max(group_begin, share.begin) - group_begin;
        const uint64_t end = std::min(group_begin + units, share.end) - group_begin;
        group_begin += units;
        if (begin >= end)
            continue;
        const bool readable = expert_group_error(desc, args, group, layout_id) == MOIRA_ERROR_NONE;
        const auto* slab = readable ? reinterpret_cast<const char*>(args.table[group.expert].address) : nullptr;
        float* inner = share.shared + group.pair_begin * expert_inner_stride(desc);
        const group_work work{desc, args, share, layout, args.pair_table + group.pair_begin, slab, inner};
        for_passes(begin, end, group.pair_count, pass_tiles, [&](const pass& part) {
            if (share.phase == 0)
                gate_up_pass(work, part);
            else
                down_pass(work, part);
        });
    }
}

} // namespace moira
