// From the ABI's descriptor and arguments to those of the kernels: the same for a GPU and for the host executor.
#pragma once

#include "kernels/cuda/sm80/expert_ffn_kernels.hpp"
#include "kernels/cuda/sm80/weight_plan.hpp"

namespace moira {

// Where one launch keeps what its kernels hand to each other, and how they are launched.
struct expert_ffn_plan {
    uint32_t tile_rows;
    uint32_t tiles;
    uint32_t x_width;     // hidden, padded to whole stages
    uint32_t inner_width; // inner likewise
    uint64_t tile_table;  // offsets in the workspace
    uint64_t x_rounded;
    uint64_t inner;
    uint64_t bytes;
};

// tile_rows: 8, 32 or 128, or 0 for what suits the counts. It changes no bit of the result.
inline expert_ffn_plan plan_expert_ffn(const moira_expert_ffn_desc& desc, uint32_t groups, uint32_t pairs,
                                       uint32_t tile_rows = 0) {
    const uint32_t stage_k = weight_tile_k(weight_format_of(desc.quantization));
    expert_ffn_plan plan{};
    plan.tile_rows = tile_rows != 0 ? tile_rows : expert_tile_rows(groups, pairs);
    plan.tiles = expert_tiles_max(groups, pairs, plan.tile_rows);
    plan.x_width = uint32_t(round_up(desc.hidden, stage_k));
    plan.inner_width = uint32_t(round_up(desc.inner, stage_k));
    plan.x_rounded = round_up(uint64_t{plan.tiles} * sizeof(expert_tile), 64);
    plan.inner = plan.x_rounded + uint64_t{pairs} * plan.x_width * 2;
    plan.bytes = plan.inner + uint64_t{pairs} * plan.inner_width * 2;
    return plan;
}

inline expert_prepare_args prepare_args_of(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args,
                                           const expert_ffn_plan& plan, const cuda_launch& launch) {
    auto* workspace = static_cast<unsigned char*>(args.workspace);
    expert_prepare_args prepare{};
    prepare.groups = args.groups;
    prepare.pairs = args.pairs;
    prepare.experts = desc.experts;
    prepare.layout_id = launch.expert_layout_id;
    prepare.tile_rows = plan.tile_rows;
    prepare.tiles = plan.tiles;
    prepare.hidden = desc.hidden;
    prepare.x_width = plan.x_width;
    prepare.x = args.x;
    prepare.x_stride = args.x_stride;
    prepare.table = args.table;
    prepare.group_table = args.group_table;
    prepare.group_count = args.group_count;
    prepare.pair_table = args.pair_table;
    prepare.tile_table = reinterpret_cast<expert_tile*>(workspace + plan.tile_table);
    prepare.x_rounded = reinterpret_cast<uint16_t*>(workspace + plan.x_rounded);
    prepare.error = launch.errors;
    return prepare;
}

inline expert_product_args product_args_of(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args,
                                           const expert_ffn_plan& plan) {
    auto* workspace = static_cast<unsigned char*>(args.workspace);
    const expert_layout layout = expert_layout_of(sm80_packing(), desc.quantization, desc.hidden, desc.inner);
    expert_product_args product{};
    product.offsets = {layout.gate, layout.up, layout.down, layout.gate_bias, layout.up_bias, layout.down_bias};
    product.tile_table = reinterpret_cast<const expert_tile*>(workspace + plan.tile_table);
    product.pair_table = args.pair_table;
    product.in = reinterpret_cast<const uint16_t*>(workspace + plan.x_rounded);
    product.in_width = plan.x_width;
    product.columns = desc.inner;
    product.columns_padded = plan.inner_width;
    product.activation = desc.activation;
    product.alpha = desc.alpha;
    product.limit = desc.limit;
    product.inner = reinterpret_cast<uint16_t*>(workspace + plan.inner);
    return product;
}

// What expert_down gets after expert_gate_up had `gate_up`.
inline expert_product_args down_args_of(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args,
                                        const expert_product_args& gate_up) {
    expert_product_args down = gate_up;
    down.in = gate_up.inner;
    down.in_width = gate_up.columns_padded;
    down.columns = down.columns_padded = desc.hidden;
    down.out = args.out;
    down.out_stride = args.out_stride;
    return down;
}

// Launches the three kernels through `launcher`, whose members know how: prepare(shape, args), gate_up<Shape>(shape,
// args) and down<Shape>(shape, args).
template <weight_format format, uint32_t rows, class Launcher>
void run_expert_products(const expert_ffn_plan& plan, const expert_product_args& gate_up,
                         const expert_product_args& down, Launcher& launcher) {
    using first = typename expert_shape<format, rows, 2>::type;
    using second = typename expert_shape<format, rows, 1>::type;
    const auto blocks = [](uint32_t columns, uint32_t per_block) { return (columns + per_block - 1) / per_block; };
    launcher.template gate_up<first>(launch_shape{blocks(gate_up.columns_padded, first::columns), plan.tiles, 1,
                                                  first::threads, first::shared_bytes},
                                     gate_up);
    launcher.template down<second>(
        launch_shape{blocks(down.columns, second::columns), plan.tiles, 1, second::threads, second::shared_bytes},
        down);
}

template <weight_format format, class Launcher>
void run_expert_ffn_of(const expert_ffn_plan& plan, const expert_product_args& gate_up, const expert_product_args& down,
                       Launcher& launcher) {
    switch (plan.tile_rows) {
    case 8:
        return run_expert_products<format, 8>(plan, gate_up, down, launcher);
    case 32:
        return run_expert_products<format, 32>(plan, gate_up, down, launcher);
    default:
        return run_expert_products<format, 128>(plan, gate_up, down, launcher);
    }
}

template <class Launcher>
void run_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args, const expert_ffn_plan& plan,
                    const cuda_launch& launch, Launcher& launcher) {
    if (args.pairs == 0 || args.groups == 0)
        return;
    const expert_product_args gate_up = product_args_of(desc, args, plan);
    const expert_product_args down = down_args_of(desc, args, gate_up);
    launcher.prepare(launch_shape{args.pairs + 1, 1, 1, expert_prepare_threads, 0},
                     prepare_args_of(desc, args, plan, launch));
    switch (weight_format_of(desc.quantization)) {
    case weight_format::f8_e4m3:
        return run_expert_ffn_of<weight_format::f8_e4m3>(plan, gate_up, down, launcher);
    case weight_format::mxfp4:
        return run_expert_ffn_of<weight_format::mxfp4>(plan, gate_up, down, launcher);
    default:
        return run_expert_ffn_of<weight_format::bf16>(plan, gate_up, down, launcher);
    }
}

} // namespace moira
