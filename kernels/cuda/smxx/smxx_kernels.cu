#include "kernels/cuda/smxx/smxx_kernels.hpp"

#include "kernels/cuda/smxx/combine.hpp"
#include "kernels/cuda/smxx/e4m3_blocks.hpp"
#include "kernels/cuda/smxx/embedding.hpp"
#include "kernels/cuda/smxx/kv_append.hpp"
#include "kernels/cuda/smxx/permute.hpp"
#include "kernels/cuda/smxx/rmsnorm.hpp"
#include "kernels/cuda/smxx/rope.hpp"
#include "kernels/cuda/smxx/router_topk.hpp"
#include "kernels/cuda/smxx/sample.hpp"

#include <cuda_runtime.h>

namespace moira {

namespace {

// No kernel here needs more shared memory than a block has without asking. A launch without blocks is no error.
template <class... Parameters>
int run(void (*kernel)(Parameters...), const launch_shape& shape, const cuda_launch& launch, Parameters... parameters) {
    if (shape.grid_x == 0 || shape.grid_y == 0)
        return int(cudaSuccess);
    kernel<<<dim3(shape.grid_x, shape.grid_y, shape.grid_z), shape.threads, shape.shared_bytes,
             static_cast<cudaStream_t>(launch.stream)>>>(parameters...);
    return int(cudaGetLastError());
}

// The first error stays.
struct sample_launcher {
    const cuda_launch& launch;
    int status = int(cudaSuccess);

    template <class... Parameters>
    void queue(void (*kernel)(Parameters...), const launch_shape& shape, Parameters... parameters) {
        if (status == int(cudaSuccess))
            status = run(kernel, shape, launch, parameters...);
    }
    template <bool of_logits>
    void first(const launch_shape& shape, const sample_part_args& args) {
        queue(sample_first<of_logits>, shape, args);
    }
    template <bool of_logits>
    void best(const launch_shape& shape, const sample_part_args& args) {
        queue(sample_best<of_logits>, shape, args);
    }
    void finish(const launch_shape& shape, const sample_args& args, const sample_key* keys) {
        queue(sample_finish, shape, args, keys);
    }
};

} // namespace

int smxx_embedding(const moira_embedding_desc& desc, const moira_embedding_args& args, const cuda_launch& launch) {
    return run(embedding_rows, embedding_shape(desc, args), launch, desc, args, launch.errors);
}

int smxx_rmsnorm(const moira_rmsnorm_desc& desc, const moira_rmsnorm_args& args, const cuda_launch& launch) {
    if (rmsnorm_by_warp(desc))
        return run(rmsnorm_warps, rmsnorm_warp_shape(desc, args), launch, desc, args, launch.errors);
    return run(rmsnorm_blocks, rmsnorm_block_shape(desc, args), launch, desc, args, launch.errors);
}

int smxx_rope(const moira_rope_desc& desc, const moira_rope_args& args, const cuda_launch& launch) {
    return run(rope_rows, rope_shape(desc, args), launch, desc, args, launch.errors);
}

int smxx_kv_append(const moira_kv_append_desc& desc, const moira_kv_append_args& args, const cuda_launch& launch) {
    return run(kv_append_rows, kv_append_shape(desc, args), launch, desc, args, launch.errors);
}

int smxx_router_topk(const moira_router_topk_desc& desc, const moira_router_topk_args& args,
                     const cuda_launch& launch) {
    return run(router_topk_rows, router_topk_shape(desc, args), launch, desc, args, launch.errors);
}

int smxx_combine(const moira_combine_desc& desc, const moira_combine_args& args, const cuda_launch& launch) {
    return run(combine_rows, combine_shape(desc, args), launch, desc, args, launch.errors);
}

int smxx_expert_groups(const moira_expert_groups_desc& desc, const moira_expert_groups_args& args,
                       const cuda_launch& launch) {
    const int status = run(permute_count, permute_shape(desc), launch, desc, args, launch.errors);
    return status != int(cudaSuccess) ? status : run(permute_place, permute_shape(desc), launch, desc, args);
}

uint64_t smxx_expert_groups_workspace(const moira_expert_groups_desc& desc) {
    return permute_workspace_bytes(desc);
}

int smxx_e4m3_quantize(const e4m3_blocks_args& args, const cuda_launch& launch) {
    return run(e4m3_quantize, e4m3_blocks_shape(args), launch, args);
}

int smxx_e4m3_dequantize(const e4m3_blocks_args& args, const cuda_launch& launch) {
    return run(e4m3_dequantize, e4m3_blocks_shape(args), launch, args);
}

int smxx_sample(const sample_args& args, const cuda_launch& launch) {
    sample_launcher launcher{launch};
    run_sample(args, launcher);
    return launcher.status;
}

} // namespace moira
