// From the ABI's descriptor and arguments to the kernels of a gemm: the same for a GPU and for the host executor.
#pragma once

#include "kernels/cuda/sm80/gemm_kernels.hpp"
#include "kernels/cuda/sm80/weight_plan.hpp"

namespace moira {

// Whether it runs in float32.
inline bool gemm_is_exact(const moira_gemm_desc& desc) {
    const uint32_t type = desc.quantization.weight_type;
    return desc.compute == MOIRA_COMPUTE_F32 || type == MOIRA_TYPE_F32 || type == MOIRA_TYPE_F16;
}

inline gemm_kernel_args gemm_args_of(const moira_gemm_desc& desc, const moira_gemm_args& args) {
    gemm_kernel_args made{};
    made.weight = static_cast<const unsigned char*>(args.weight);
    made.x = args.x;
    made.x_stride = args.x_stride;
    made.x_rounded = static_cast<uint16_t*>(args.workspace);
    made.x_width = uint32_t(round_up(desc.k, weight_tile_k(weight_format_of(desc.quantization))));
    made.rows = args.rows;
    made.n = desc.n;
    made.k = desc.k;
    made.bias = desc.has_bias ? args.bias : nullptr;
    made.accumulate = desc.accumulate;
    made.out = args.out;
    made.out_stride = args.out_stride;
    return made;
}

template <class Shape, class Launcher>
void run_gemm_shape(const gemm_kernel_args& args, uint32_t batch, Launcher& launcher) {
    launcher.template tiles<Shape>(launch_shape{(args.n + Shape::columns - 1) / Shape::columns,
                                                (args.rows + Shape::rows - 1) / Shape::rows, batch, Shape::threads,
                                                Shape::shared_bytes},
                                   args);
}

template <weight_format format, class Launcher>
void run_gemm_tiles(const gemm_kernel_args& args, uint32_t tile_rows, uint32_t batch, Launcher& launcher) {
    switch (tile_rows) {
    case 8:
        return run_gemm_shape<typename gemm_shape<format, 8>::type>(args, batch, launcher);
    case 32:
        return run_gemm_shape<typename gemm_shape<format, 32>::type>(args, batch, launcher);
    default:
        return run_gemm_shape<typename gemm_shape<format, 128>::type>(args, batch, launcher);
    }
}

template <weight_format format, class Launcher>
void run_gemm_exact(const gemm_kernel_args& args, Launcher& launcher) {
    launcher.template exact<format>(launch_shape{(args.n + weight_tile_rows - 1) / weight_tile_rows,
                                                 (args.rows + gemm_exact_rows - 1) / gemm_exact_rows, 1,
                                                 gemm_exact_warps * warp_lanes, 0},
                                    args);
}

// Launches through `launcher`, whose members know how: round(shape, args), tiles<Shape>(shape, args) and
// exact<format>(shape, args). tile_rows: 8, 32 or 128, or 0 for what suits the rows; it changes no bit of the result.
template <class Launcher>
void run_gemm(const moira_gemm_desc& desc, const moira_gemm_args& abi_args, Launcher& launcher,
              uint32_t tile_rows = 0) {
    if (abi_args.rows == 0)
        return;
    const gemm_kernel_args args = gemm_args_of(desc, abi_args);
    const weight_format format = weight_format_of(desc.quantization);
    if (gemm_is_exact(desc)) {
        if (format == weight_format::f32)
            return run_gemm_exact<weight_format::f32>(args, launcher);
        if (format == weight_format::f16)
            return run_gemm_exact<weight_format::f16>(args, launcher);
        return run_gemm_exact<weight_format::bf16>(args, launcher);
    }
    launcher.round(launch_shape{args.rows, 1, 1, gemm_round_threads, 0}, args);
    const uint32_t rows = tile_rows != 0 ? tile_rows : gemm_tile_rows(args.rows);
    if (format == weight_format::f8_e4m3)
        return run_gemm_tiles<weight_format::f8_e4m3>(args, rows, 1, launcher);
    if (format == weight_format::mxfp4)
        return run_gemm_tiles<weight_format::mxfp4>(args, rows, 1, launcher);
    return run_gemm_tiles<weight_format::bf16>(args, rows, 1, launcher);
}

} // namespace moira
