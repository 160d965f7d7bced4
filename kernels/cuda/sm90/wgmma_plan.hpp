// From the ABI's descriptors and arguments to the wgmma kernels: the same for a GPU and for the host executor.
// Workspaces have the sizes of sm_80's, and the products take rows in the same numbers, except for the widest tile of
// FP8.
#pragma once

#include "kernels/cuda/sm80/expert_ffn_plan.hpp"
#include "kernels/cuda/sm80/gemm_plan.hpp"
#include "kernels/cuda/sm90/wgmma_kernels.hpp"

namespace moira {

// Calls function with the format as a compile-time constant; of a format that tensor cores multiply.
template <class Function>
void with_wgmma_format(weight_format format, const Function& function) {
    switch (format) {
    case weight_format::f8_e4m3:
        return function(std::integral_constant<weight_format, weight_format::f8_e4m3>{});
    case weight_format::mxfp4:
        return function(std::integral_constant<weight_format, weight_format::mxfp4>{});
    default:
        return function(std::integral_constant<weight_format, weight_format::bf16>{});
    }
}

// tile_rows: 8, 32 or 128, or 0 for what suits the counts. It changes no bit of the result.
inline expert_ffn_plan plan_wgmma_expert_ffn(const moira_expert_ffn_desc& desc, uint32_t groups, uint32_t pairs,
                                             uint32_t tile_rows = 0) {
    const uint32_t most = wgmma_rows_max(weight_format_of(desc.quantization));
    const uint32_t wanted = tile_rows != 0 ? tile_rows : expert_tile_rows(groups, pairs);
    return plan_expert_ffn(desc, groups, pairs, wanted < most ? wanted : most);
}

template <class First, class Second, class Launcher>
void run_wgmma_products(const expert_ffn_plan& plan, const expert_product_args& gate_up,
                        const expert_product_args& down, Launcher& launcher) {
    const auto blocks = [](uint32_t columns, uint32_t per_block) { return (columns + per_block - 1) / per_block; };
    launcher.template gate_up<First>(launch_shape{blocks(gate_up.columns_padded, First::columns), plan.tiles, 1,
                                                  First::threads, First::shared_bytes},
                                     gate_up);
    launcher.template down<Second>(
        launch_shape{blocks(down.columns, Second::columns), plan.tiles, 1, Second::threads, Second::shared_bytes},
        down);
}

// Launches the three kernels through `launcher`, whose members know how: prepare(shape, args), gate_up<Shape>(shape,
// args) and down<Shape>(shape, args).
template <class Launcher>
void run_wgmma_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args,
                          const expert_ffn_plan& plan, const cuda_launch& launch, Launcher& launcher) {
    if (args.pairs == 0 || args.groups == 0)
        return;
    const expert_product_args gate_up = product_args_of(desc, args, plan);
    const expert_product_args down = down_args_of(desc, args, gate_up);
    launcher.prepare(launch_shape{args.pairs + 1, 1, 1, expert_prepare_threads, 0},
                     prepare_args_of(desc, args, plan, launch));
    with_wgmma_format(weight_format_of(desc.quantization), [&](auto constant) {
        constexpr weight_format format = decltype(constant)::value;
        constexpr uint32_t widest = wgmma_rows_max(format);
        if (plan.tile_rows == 8)
            run_wgmma_products<typename wgmma_shape_for<format, 8, 2>::type,
                               typename wgmma_shape_for<format, 8, 1>::type>(plan, gate_up, down, launcher);
        else if (plan.tile_rows == 32)
            run_wgmma_products<typename wgmma_shape_for<format, 32, 2>::type,
                               typename wgmma_shape_for<format, 32, 1>::type>(plan, gate_up, down, launcher);
        else
            run_wgmma_products<typename wgmma_shape_for<format, widest, 2>::type,
                               typename wgmma_shape_for<format, widest, 1>::type>(plan, gate_up, down, launcher);
    });
}

template <class Shape, class Launcher>
void run_wgmma_gemm_shape(const gemm_kernel_args& gemm, Launcher& launcher) {
    const wgmma_gemm_args args{gemm, Shape::rows};
    launcher.round(launch_shape{gemm.rows, 1, 1, gemm_round_threads, 0}, args);
    launcher.template tiles<Shape>(launch_shape{(gemm.n + Shape::columns - 1) / Shape::columns,
                                                (gemm.rows + Shape::rows - 1) / Shape::rows, 1, Shape::threads,
                                                Shape::shared_bytes},
                                   args);
}

// A gemm on tensor cores (gemm_is_exact is false). Launches through `launcher`: round(shape, args) and
// tiles<Shape>(shape, args). tile_rows: 8, 32 or 128, or 0 for what suits the rows; it changes no bit of the result.
template <class Launcher>
void run_wgmma_gemm(const moira_gemm_desc& desc, const moira_gemm_args& abi_args, Launcher& launcher,
                    uint32_t tile_rows = 0) {
    if (abi_args.rows == 0)
        return;
    const gemm_kernel_args args = gemm_args_of(desc, abi_args);
    const uint32_t rows = tile_rows != 0 ? tile_rows : gemm_tile_rows(args.rows);
    with_wgmma_format(weight_format_of(desc.quantization), [&](auto constant) {
        constexpr weight_format format = decltype(constant)::value;
        if (rows == 8)
            run_wgmma_gemm_shape<typename wgmma_shape_for<format, 8, 1>::type>(args, launcher);
        else if (rows == 32)
            run_wgmma_gemm_shape<typename wgmma_shape_for<format, 32, 1>::type>(args, launcher);
        else
            run_wgmma_gemm_shape<typename wgmma_shape_for<format, wgmma_rows_max(format), 1>::type>(args, launcher);
    });
}

} // namespace moira
