#include "kernels/cuda/sm80/attention_plan.hpp"
#include "kernels/cuda/sm80/cuda_launch.hpp"

namespace moira {

namespace {

// The first error stays.
struct attention_launcher {
    void* stream;
    cudaError_t status = cudaSuccess;

    template <class Args>
    void launch(void (*kernel)(Args), const launch_shape& shape, const Args& args) {
        if (status == cudaSuccess)
            status = launch_kernel(kernel, shape, args, stream);
    }
    void check(const launch_shape& shape, const attention_kernel_args& args) { launch(attention_check, shape, args); }
    template <class Shape, bool shared_out>
    void rows(const launch_shape& shape, const attention_kernel_args& args) {
        launch(attention_rows<Shape, shared_out>, shape, args);
    }
    void merge(const launch_shape& shape, const attention_kernel_args& args) { launch(attention_merge, shape, args); }
    void round(const launch_shape& shape, const gemm_kernel_args& args) { launch(gemm_round_rows, shape, args); }
    template <class Shape>
    void tiles(const launch_shape& shape, const gemm_kernel_args& args) {
        launch(gemm_tiles<Shape>, shape, args);
    }
};

// What cp.async needs of addresses.
bool pool_aligned(const moira_kv_view& kv) {
    return reinterpret_cast<uint64_t>(kv.pool) % 16 == 0 && kv.slot_stride % 8 == 0 && kv.value_offset % 8 == 0;
}

} // namespace

int sm80_attention_gqa(const moira_attention_gqa_desc& desc, const moira_attention_args& args,
                       const cuda_launch& launch) {
    if (!pool_aligned(args.kv))
        return int(cudaErrorInvalidValue);
    attention_launcher launcher{launch.stream};
    run_attention_gqa(desc, args, plan_attention_gqa(desc, args.rows), launch, launcher);
    return int(launcher.status);
}

int sm80_attention_mla(const moira_attention_mla_desc& desc, const moira_attention_args& args,
                       const cuda_launch& launch) {
    if (!pool_aligned(args.kv))
        return int(cudaErrorInvalidValue);
    attention_launcher launcher{launch.stream};
    run_attention_mla(desc, args, plan_attention_mla(desc, args.rows), launch, launcher);
    return int(launcher.status);
}

} // namespace moira
