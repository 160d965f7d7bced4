// Launch functions of the generic kernels, for any architecture: queue on the stream of `launch`, return a cudaError_t,
// allocate nothing, may be captured. See cuda_kernels.hpp.
#pragma once

#include "kernels/cuda/cuda_kernels.hpp"

namespace moira {

struct e4m3_blocks_args; // smxx/e4m3_blocks.hpp
struct sample_args;      // smxx/sample.hpp

int smxx_embedding(const moira_embedding_desc& desc, const moira_embedding_args& args, const cuda_launch& launch);
int smxx_rmsnorm(const moira_rmsnorm_desc& desc, const moira_rmsnorm_args& args, const cuda_launch& launch);
int smxx_rope(const moira_rope_desc& desc, const moira_rope_args& args, const cuda_launch& launch);
int smxx_kv_append(const moira_kv_append_desc& desc, const moira_kv_append_args& args, const cuda_launch& launch);
int smxx_router_topk(const moira_router_topk_desc& desc, const moira_router_topk_args& args, const cuda_launch& launch);
int smxx_combine(const moira_combine_desc& desc, const moira_combine_args& args, const cuda_launch& launch);
int smxx_expert_groups(const moira_expert_groups_desc& desc, const moira_expert_groups_args& args,
                       const cuda_launch& launch);
uint64_t smxx_expert_groups_workspace(const moira_expert_groups_desc& desc);
int smxx_e4m3_quantize(const e4m3_blocks_args& args, const cuda_launch& launch);
int smxx_e4m3_dequantize(const e4m3_blocks_args& args, const cuda_launch& launch);
int smxx_sample(const sample_args& args, const cuda_launch& launch);

} // namespace moira
