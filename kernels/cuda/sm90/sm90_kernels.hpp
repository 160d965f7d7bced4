// The kernels for compute capability 9.0 alone, with the signatures of cuda_kernels.hpp. Weights are packed as for
// sm_80, limits and workspaces are those of sm80_kernels.hpp.
#pragma once

#include "kernels/cuda/cuda_kernels.hpp"

namespace moira {

int sm90_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args, const cuda_launch& launch);
// float32 products, for routers and for F16 and F32 weights, run sm80_gemm's kernel.
int sm90_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const cuda_launch& launch);

} // namespace moira
