#include "kernels/cuda/sm_kernels.hpp"

#include "kernels/cuda/sm80/sm80_kernels.hpp"
#include "kernels/cuda/smxx/smxx_kernels.hpp"

namespace moira {

const cuda_kernels& cuda_sm_kernels() {
    static const cuda_kernels kernels = {
        .numerics_id = MOIRA_CUDA_NUMERICS,
        .kv_bf16_supported = true,
        .kv_type_wanted = MOIRA_TYPE_BF16,
        .weight_supported = sm80_weight_supported,
        .packing = sm80_packing(),
        .embedding = {smxx_embedding},
        .rmsnorm = {smxx_rmsnorm},
        .rope = {smxx_rope},
        .kv_append = {smxx_kv_append},
        .attention_gqa = {sm80_attention_gqa, sm80_attention_gqa_limit, sm80_attention_gqa_workspace},
        .attention_mla = {sm80_attention_mla, sm80_attention_mla_limit, sm80_attention_mla_workspace},
        .gemm = {sm80_gemm, sm80_gemm_limit, sm80_gemm_workspace},
        .router_topk = {smxx_router_topk},
        .expert_ffn = {sm80_expert_ffn, sm80_expert_ffn_limit, sm80_expert_ffn_workspace},
        .combine = {smxx_combine},
        .expert_groups = {smxx_expert_groups, nullptr, smxx_expert_groups_workspace},
        .round_rows = sm80_round_rows,
    };
    return kernels;
}

} // namespace moira
