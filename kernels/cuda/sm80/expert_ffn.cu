#include "kernels/cuda/sm80/cuda_launch.hpp"
#include "kernels/cuda/sm80/expert_ffn_plan.hpp"

namespace moira {

namespace {

// The first error stays.
struct expert_launcher {
    void* stream;
    cudaError_t status = cudaSuccess;

    template <class Args>
    void launch(void (*kernel)(Args), const launch_shape& shape, const Args& args) {
        if (status == cudaSuccess)
            status = launch_kernel(kernel, shape, args, stream);
    }
    void prepare(const launch_shape& shape, const expert_prepare_args& args) { launch(expert_prepare, shape, args); }
    template <class Shape>
    void gate_up(const launch_shape& shape, const expert_product_args& args) {
        launch(expert_gate_up<Shape>, shape, args);
    }
    template <class Shape>
    void down(const launch_shape& shape, const expert_product_args& args) {
        launch(expert_down<Shape>, shape, args);
    }
};

} // namespace

int sm80_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args, const cuda_launch& launch) {
    expert_launcher launcher{launch.stream};
    run_expert_ffn(desc, args, plan_expert_ffn(desc, args.groups, args.pairs), launch, launcher);
    return int(launcher.status);
}

} // namespace moira
