#include "kernels/cuda/sm_kernels.hpp"

#include "kernels/cuda/sm80/sm80_kernels.hpp"

namespace moira {

const cuda_kernels& cuda_sm_kernels() {
    static const cuda_kernels kernels = {
        .numerics_id = MOIRA_CUDA_NUMERICS,
        .kv_bf16_supported = true,
        .kv_type_wanted = MOIRA_TYPE_BF16,
        .weight_supported = sm80_weight_supported,
        .packing = sm80_packing(),
        .gemm = {sm80_gemm, sm80_gemm_limit, sm80_gemm_workspace},
        .expert_ffn = {sm80_expert_ffn, sm80_expert_ffn_limit, sm80_expert_ffn_workspace},
    };
    return kernels;
}

} // namespace moira
