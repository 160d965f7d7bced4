// gemm, expert_ffn, and the packing of their weights.
#include "kernels/op_plan.hpp"
#include "kernels/reference/reference_kernels.hpp"
#include "kernels/reference/weight_view.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace moira {

float weight_dot(const weight_view& weight, uint64_t row, const float* x) {
    return with_loader(weight.type, [&](auto loader) {
        const uint64_t start = row * weight.k;
        if (!weight.scales) {
            float sum = 0.0f;
            for (uint32_t k = 0; k < weight.k; ++k)
                sum += loader.load(weight.data, start + k) * x[k];
            return sum;
        }
        const uint64_t blocks = (uint64_t{weight.k} + weight.block_k - 1) / weight.block_k;
        const float* scales = weight.scales + row / weight.block_n * blocks;
        float sum = 0.0f;
        for (uint64_t block = 0; block < blocks; ++block) {
            float partial = 0.0f;
            const uint64_t end = std::min<uint64_t>((block + 1) * weight.block_k, weight.k);
            for (uint64_t k = block * weight.block_k; k < end; ++k)
                partial += loader.load(weight.data, start + k) * x[k];
            sum += partial * scales[block];
        }
        return sum;
    });
}

float gated_activation(const moira_expert_ffn_desc& desc, float gate, float up) {
    if (desc.activation == MOIRA_FFN_SILU_GATED)
        return gate / (1.0f + std::exp(-gate)) * up;
    gate = std::min(gate, desc.limit);
    up = std::max(std::min(up, desc.limit), -desc.limit);
    return gate / (1.0f + std::exp(-desc.alpha * gate)) * (up + 1.0f);
}

namespace {

// Calls function(column) for the columns of a tile.
template <class Function>
void for_tile_columns(uint64_t tile, uint32_t n, const Function& function) {
    const uint64_t end = std::min<uint64_t>((tile + 1) * tile_columns, n);
    for (uint64_t column = tile * tile_columns; column < end; ++column)
        function(column);
}

// One expert as the reference reads it.
struct reference_expert {
    weight_view gate;
    weight_view up;
    weight_view down;
    const float* gate_bias;
    const float* up_bias;
    const float* down_bias;
};

reference_expert expert_at(const moira_expert_ffn_desc& desc, uint64_t address) {
    const expert_layout layout = expert_layout_of(reference_packing(), desc.quantization, desc.hidden, desc.inner);
    const char* slab = reinterpret_cast<const char*>(address);
    return {view_of(desc.quantization, desc.inner, desc.hidden, slab + layout.gate),
            view_of(desc.quantization, desc.inner, desc.hidden, slab + layout.up),
            view_of(desc.quantization, desc.hidden, desc.inner, slab + layout.down),
            reinterpret_cast<const float*>(slab + layout.gate_bias),
            reinterpret_cast<const float*>(slab + layout.up_bias),
            reinterpret_cast<const float*>(slab + layout.down_bias)};
}

void zero_out_tile(const moira_expert_ffn_desc& desc, float* out, uint64_t tile) {
    for_tile_columns(tile, desc.hidden, [&](uint64_t column) { out[column] = 0.0f; });
}

void expert_unit(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args, const work_share& share,
                 const reference_expert& expert, uint64_t pair_index, uint64_t tile) {
    const moira_expert_pair& pair = args.pair_table[pair_index];
    float* inner = share.shared + pair_index * expert_inner_stride(desc);
    if (share.phase == 0) {
        const float* x = args.x + uint64_t(pair.row) * args.x_stride;
        for_tile_columns(tile, desc.inner, [&](uint64_t column) {
            const float gate = weight_dot(expert.gate, column, x) + expert.gate_bias[column];
            const float up = weight_dot(expert.up, column, x) + expert.up_bias[column];
            inner[column] = gated_activation(desc, gate, up);
        });
    } else {
        float* out = args.out + uint64_t(pair.out_row) * args.out_stride;
        for_tile_columns(tile, desc.hidden, [&](uint64_t column) {
            out[column] = weight_dot(expert.down, column, inner) + expert.down_bias[column];
        });
    }
}

template <class Element>
void copy_matrix(uint32_t n, uint32_t k, const void* from, uint64_t from_row, uint64_t from_column, void* to,
                 uint64_t to_row, uint64_t to_column) {
    const auto* source = static_cast<const char*>(from);
    auto* target = static_cast<char*>(to);
    for (uint64_t row = 0; row < n; ++row)
        for (uint64_t column = 0; column < k; ++column) // byte copies: sources may stand at any address
            std::memcpy(target + (row * to_row + column * to_column) * sizeof(Element),
                        source + (row * from_row + column * from_column) * sizeof(Element), sizeof(Element));
}

uint64_t scale_bytes(const moira_quantization& quantization, uint32_t n, uint32_t k) {
    if (quantization.scale_mode != MOIRA_SCALE_BLOCK)
        return 0;
    return round_up(n, quantization.block_n) / quantization.block_n *
           (round_up(k, quantization.block_k) / quantization.block_k) * sizeof(float);
}

uint64_t matrix_bytes(const moira_quantization& quantization, uint32_t n, uint32_t k) {
    return row_major_weight_bytes(quantization, n, k) + round_up(scale_bytes(quantization, n, k), 64);
}

void pack_matrix(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* weight,
                 uint64_t row_stride, uint64_t column_stride, const void* scales, void* packed) {
    std::memset(packed, 0, matrix_bytes(quantization, n, k));
    with_loader(quantization.weight_type, [&](auto loader) {
        copy_matrix<typename decltype(loader)::element>(n, k, weight, row_stride, column_stride, packed, k, 1);
    });
    if (const uint64_t bytes = scale_bytes(quantization, n, k))
        std::memcpy(static_cast<char*>(packed) + row_major_weight_bytes(quantization, n, k), scales, bytes);
}

void unpack_matrix(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* packed, void* weight,
                   uint64_t row_stride, uint64_t column_stride) {
    with_loader(quantization.weight_type, [&](auto loader) {
        copy_matrix<typename decltype(loader)::element>(n, k, packed, k, 1, weight, row_stride, column_stride);
    });
}

} // namespace

bool reference_weight_supported(const moira_quantization& quantization) {
    if (quantization.activation != MOIRA_ACTIVATION_KEEP || weight_element_bytes(quantization.weight_type) == 0)
        return false;
    if (quantization.weight_type != MOIRA_TYPE_F8_E4M3)
        return quantization.scale_mode == MOIRA_SCALE_NONE;
    return quantization.scale_mode == MOIRA_SCALE_BLOCK && quantization.scale_type == MOIRA_TYPE_F32 &&
           quantization.block_n > 0 && quantization.block_k > 0;
}

packing_kernels reference_packing() {
    return {layout_base_row_major, matrix_bytes, pack_matrix, unpack_matrix};
}

void reference_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const work_share& share) {
    const weight_view weight = view_of(desc.quantization, desc.n, desc.k, args.weight);
    for (uint64_t unit = share.begin; unit < share.end; ++unit) {
        const uint64_t row = unit % args.rows;
        const float* x = args.x + row * args.x_stride;
        float* out = args.out + row * args.out_stride;
        for_tile_columns(unit / args.rows, desc.n, [&](uint64_t column) {
            float sum = weight_dot(weight, column, x);
            if (desc.has_bias)
                sum += args.bias[column];
            out[column] = desc.accumulate ? out[column] + sum : sum;
        });
    }
}

void reference_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args,
                          const work_share& share) {
    const uint32_t columns = share.phase == 0 ? desc.inner : desc.hidden;
    const uint64_t tiles = round_up(columns, tile_columns) / tile_columns;
    const uint32_t layout_id = packed_layout_id(layout_base_row_major, MOIRA_PACK_EXPERT, desc.quantization);
    uint64_t group_begin = 0; // in units
    for (uint32_t index = 0; index < expert_group_count(args) && group_begin < share.end; ++index) {
        const moira_expert_group& group = args.group_table[index];
        const uint64_t group_end = group_begin + tiles * group.pair_count;
        const uint64_t begin = std::max(group_begin, share.begin);
        const uint64_t end = std::min(group_end, share.end);
        if (begin < end) {
            const bool readable = expert_group_error(desc, args, group, layout_id) == MOIRA_ERROR_NONE;
            const reference_expert expert =
                readable ? expert_at(desc, args.table[group.expert].address) : reference_expert{};
            for (uint64_t unit = begin - group_begin; unit < end - group_begin; ++unit) {
                const uint64_t pair = group.pair_begin + unit % group.pair_count;
                if (readable)
                    expert_unit(desc, args, share, expert, pair, unit / group.pair_count);
                else if (share.phase == 1)
                    zero_out_tile(desc, args.out + uint64_t(args.pair_table[pair].out_row) * args.out_stride,
                                  unit / group.pair_count);
            }
        }
        group_begin = group_end;
    }
}

} // namespace moira
