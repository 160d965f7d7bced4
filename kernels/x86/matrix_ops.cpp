// gemm and expert_ffn over tiles.
#include "kernels/op_plan.hpp"
#include "kernels/x86/tile_product.hpp"
#include "kernels/x86/x86_kernels.hpp"

namespace moira {

namespace {

// Units are numbered tile * rows + row. Work goes by passes of up to pass_rows rows over one tile; a pass belongs to
// whose share holds its first unit, so that no tile is read twice for few rows. Calls function(tile, row, count).
template <class Function>
void for_passes(uint64_t begin, uint64_t end, uint64_t rows, const Function& function) {
    uint64_t tile = begin / rows;
    uint64_t row = round_up(begin % rows, pass_rows);
    for (;; row += pass_rows) {
        if (row >= rows) {
            ++tile;
            row = 0;
        }
        if (tile * rows + row >= end)
            return;
        function(tile, row, static_cast<uint32_t>(std::min<uint64_t>(pass_rows, rows - row)));
    }
}

uint32_t columns_of_tile(uint64_t tile, uint32_t n) {
    return static_cast<uint32_t>(std::min<uint64_t>(tile_columns, n - tile * tile_columns));
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

void gate_up_pass(const group_work& work, uint64_t tile, uint64_t pair, uint32_t count) {
    if (!work.slab)
        return;
    const moira_expert_ffn_desc& desc = work.desc;
    const tile_matrix gate =
        tile_matrix_at(desc.quantization, MOIRA_COMPUTE_AUTO, desc.inner, desc.hidden, work.slab + work.layout.gate);
    const tile_matrix up =
        tile_matrix_at(desc.quantization, MOIRA_COMPUTE_AUTO, desc.inner, desc.hidden, work.slab + work.layout.up);
    const float* x[pass_rows] = {};
    for (uint32_t i = 0; i < count; ++i)
        x[i] = work.args.x + uint64_t(work.pairs[pair + i].row) * work.args.x_stride;
    tile_sums gate_sums;
    tile_sums up_sums;
    multiply_tile(gate, tile, x, count, gate_sums);
    multiply_tile(up, tile, x, count, up_sums);
    const uint64_t column = tile * tile_columns;
    for (uint32_t i = 0; i < count; ++i)
        activate_row(desc, gate_sums.at[i], up_sums.at[i], floats_at(work.slab, work.layout.gate_bias) + column,
                     floats_at(work.slab, work.layout.up_bias) + column, columns_of_tile(tile, desc.inner),
                     work.inner + (pair + i) * expert_inner_stride(desc) + column);
}

void down_pass(const group_work& work, uint64_t tile, uint64_t pair, uint32_t count) {
    const moira_expert_ffn_desc& desc = work.desc;
    const uint32_t columns = columns_of_tile(tile, desc.hidden);
    const uint64_t column = tile * tile_columns;
    float* out[pass_rows];
    for (uint32_t i = 0; i < count; ++i)
        out[i] = work.args.out + uint64_t(work.pairs[pair + i].out_row) * work.args.out_stride + column;
    if (!work.slab) {
        for (uint32_t i = 0; i < count; ++i)
            std::fill(out[i], out[i] + columns, 0.0f);
        return;
    }
    const tile_matrix down =
        tile_matrix_at(desc.quantization, MOIRA_COMPUTE_AUTO, desc.hidden, desc.inner, work.slab + work.layout.down);
    const float* x[pass_rows] = {};
    for (uint32_t i = 0; i < count; ++i)
        x[i] = work.inner + (pair + i) * expert_inner_stride(desc);
    tile_sums sums;
    multiply_tile(down, tile, x, count, sums);
    for (uint32_t i = 0; i < count; ++i)
        finish_row(sums.at[i], columns, floats_at(work.slab, work.layout.down_bias) + column, false, out[i]);
}

} // namespace

void x86_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const work_share& share) {
    const tile_matrix matrix = tile_matrix_at(desc.quantization, desc.compute, desc.n, desc.k, args.weight);
    for_passes(share.begin, share.end, args.rows, [&](uint64_t tile, uint64_t row, uint32_t count) {
        const float* x[pass_rows] = {};
        for (uint32_t i = 0; i < count; ++i)
            x[i] = args.x + (row + i) * args.x_stride;
        tile_sums sums;
        multiply_tile(matrix, tile, x, count, sums);
        const uint64_t column = tile * tile_columns;
        const float* bias = desc.has_bias ? args.bias + column : nullptr;
        for (uint32_t i = 0; i < count; ++i)
            finish_row(sums.at[i], columns_of_tile(tile, desc.n), bias, desc.accumulate != 0,
                       args.out + (row + i) * args.out_stride + column);
    });
}

void x86_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args, const work_share& share) {
    const expert_layout layout = expert_layout_of(tile_packing(), desc.quantization, desc.hidden, desc.inner);
    const uint32_t layout_id = packed_layout_id(layout_base_tiles, MOIRA_PACK_EXPERT, desc.quantization);
    const uint64_t tiles = tile_count(share.phase == 0 ? desc.inner : desc.hidden);
    uint64_t group_begin = 0; // in units
    for (uint32_t index = 0; index < args.groups && group_begin < share.end; ++index) {
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
        for_passes(begin, end, group.pair_count, [&](uint64_t tile, uint64_t pair, uint32_t count) {
            if (share.phase == 0)
                gate_up_pass(work, tile, pair, count);
            else
                down_pass(work, tile, pair, count);
        });
    }
}

} // namespace moira
