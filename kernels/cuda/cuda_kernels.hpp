// What a CUDA plugin is made of: one launch function per op. Plain C++, so that the plugin's host side builds and is
// tested without a CUDA toolkit. Whoever calls has checked the descriptor and the addresses; what lies in device memory
// (tokens, pages, pairs, expert entries) the kernels check and report in their error slot.
#pragma once

#include "kernels/cpu_kernels.hpp"

namespace moira {

struct step_error_slot; // kernels/cuda/device/simt.hpp

// Where one op of a list runs.
struct cuda_launch {
    void* stream;              // cudaStream_t
    step_error_slot* errors;   // of this entry of the step
    uint32_t multiprocessors;  // of the device: grids may be sized by it, results may not depend on it
    uint32_t expert_layout_id; // expert_ffn: entries of another layout are stale; 0: any
};

// A launch function queues kernels on launch.stream and returns a cudaError_t, 0 when all were accepted. It allocates
// nothing, waits for nothing, and can be captured into a graph. Null: there is no kernel for this op.
template <class Desc, class Args>
using cuda_launch_function = int (*)(const Desc& desc, const Args& args, const cuda_launch& launch);

// nullptr when a kernel can run the (already checked) descriptor, else what it lacks, in words.
template <class Desc>
using cuda_limit_function = const char* (*)(const Desc& desc);

template <class Desc, class Args>
struct cuda_op {
    cuda_launch_function<Desc, Args> launch = nullptr;
    cuda_limit_function<Desc> limit = nullptr;               // null: no limit beyond check_op's
    uint64_t (*workspace_bytes)(const Desc& desc) = nullptr; // null: none
};

struct cuda_kernels {
    const char* numerics_id;
    bool kv_bf16_supported = false;
    uint32_t kv_type_wanted = MOIRA_TYPE_F32;
    bool (*weight_supported)(const moira_quantization& quantization);
    packing_kernels packing;
    cuda_op<moira_embedding_desc, moira_embedding_args> embedding = {};
    cuda_op<moira_rmsnorm_desc, moira_rmsnorm_args> rmsnorm = {};
    cuda_op<moira_rope_desc, moira_rope_args> rope = {};
    cuda_op<moira_kv_append_desc, moira_kv_append_args> kv_append = {};
    cuda_op<moira_attention_gqa_desc, moira_attention_args> attention_gqa = {};
    cuda_op<moira_attention_mla_desc, moira_attention_args> attention_mla = {};
    cuda_op<moira_gemm_desc, moira_gemm_args> gemm = {};
    cuda_op<moira_router_topk_desc, moira_router_topk_args> router_topk = {};
    cuda_op<moira_expert_ffn_desc, moira_expert_ffn_args> expert_ffn = {};
    cuda_op<moira_combine_desc, moira_combine_args> combine = {};
    cuda_op<moira_expert_groups_desc, moira_expert_groups_args> expert_groups = {};
    // Rows of k (even) floats rounded to BF16 and tight, for a library's gemm; null: no library.
    int (*round_rows)(const float* x, uint64_t x_stride, uint32_t rows, uint32_t k, uint16_t* out,
                      const cuda_launch& launch) = nullptr;
};

} // namespace moira
