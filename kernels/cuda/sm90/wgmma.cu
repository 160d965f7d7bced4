#include "kernels/cuda/sm80/cuda_launch.hpp"
#include "kernels/cuda/sm80/sm80_kernels.hpp"
#include "kernels/cuda/sm90/sm90_kernels.hpp"
#include "kernels/cuda/sm90/wgmma_plan.hpp"

namespace moira {

namespace {

// The first error stays.
struct wgmma_launcher {
    void* stream;
    cudaError_t status = cudaSuccess;

    template <class Args>
    void launch(void (*kernel)(Args), const launch_shape& shape, const Args& args) {
        if (status == cudaSuccess)
            status = launch_kernel(kernel, shape, args, stream);
    }
    void prepare(const launch_shape& shape, const expert_prepare_args& args) { launch(wgmma_prepare, shape, args); }
    template <class Shape>
    void gate_up(const launch_shape& shape, const expert_product_args& args) {
        launch(wgmma_gate_up<Shape>, shape, args);
    }
    template <class Shape>
    void down(const launch_shape& shape, const expert_product_args& args) {
        launch(wgmma_down<Shape>, shape, args);
    }
    void round(const launch_shape& shape, const wgmma_gemm_args& args) { launch(wgmma_round_rows, shape, args); }
    template <class Shape>
    void tiles(const launch_shape& shape, const wgmma_gemm_args& args) {
        launch(wgmma_gemm<Shape>, shape, args);
    }
};

} // namespace

int sm90_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args, const cuda_launch& launch) {
    wgmma_launcher launcher{launch.stream};
    run_wgmma_expert_ffn(desc, args, plan_wgmma_expert_ffn(desc, args.groups, args.pairs), launch, launcher);
    return int(launcher.status);
}

int sm90_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const cuda_launch& launch) {
    if (gemm_is_exact(desc))
        return sm80_gemm(desc, args, launch);
    wgmma_launcher launcher{launch.stream};
    run_wgmma_gemm(desc, args, launcher);
    return int(launcher.status);
}

} // namespace moira
