#include "kernels/cuda/sm80/cuda_launch.hpp"
#include "kernels/cuda/sm80/gemm_plan.hpp"

namespace moira {

namespace {

// The first error stays.
struct gemm_launcher {
    void* stream;
    cudaError_t status = cudaSuccess;

    void launch(void (*kernel)(gemm_kernel_args), const launch_shape& shape, const gemm_kernel_args& args) {
        if (status == cudaSuccess)
            status = launch_kernel(kernel, shape, args, stream);
    }
    void round(const launch_shape& shape, const gemm_kernel_args& args) { launch(gemm_round_rows, shape, args); }
    template <class Shape>
    void tiles(const launch_shape& shape, const gemm_kernel_args& args) {
        launch(gemm_tiles<Shape>, shape, args);
    }
    template <weight_format format>
    void exact(const launch_shape& shape, const gemm_kernel_args& args) {
        launch(gemm_exact<format>, shape, args);
    }
};

} // namespace

int sm80_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const cuda_launch& launch) {
    gemm_launcher launcher{launch.stream};
    run_gemm(desc, args, launcher);
    return int(launcher.status);
}

int sm80_round_rows(const float* x, uint64_t x_stride, uint32_t rows, uint32_t k, uint16_t* out,
                    const cuda_launch& launch) {
    gemm_kernel_args args{};
    args.x = x;
    args.x_stride = x_stride;
    args.x_rounded = out;
    args.x_width = args.k = k;
    args.rows = rows;
    return int(launch_kernel(gemm_round_rows, launch_shape{rows, 1, 1, gemm_round_threads, 0}, args, launch.stream));
}

} // namespace moira
