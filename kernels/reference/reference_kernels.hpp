// Scalar float32 versions of every op: the oracle that other plugins are compared with, written to be read. Sums run in
// K order, every product is rounded before it is added. Exponentials are libm's.
#pragma once

#include "kernels/cpu_kernels.hpp"

namespace moira {

void reference_embedding(const moira_embedding_desc&, const moira_embedding_args&, const work_share&);
void reference_rmsnorm(const moira_rmsnorm_desc&, const moira_rmsnorm_args&, const work_share&);
void reference_rope(const moira_rope_desc&, const moira_rope_args&, const work_share&);
void reference_kv_append(const moira_kv_append_desc&, const moira_kv_append_args&, const work_share&);
void reference_attention_gqa(const moira_attention_gqa_desc&, const moira_attention_args&, const work_share&);
void reference_attention_mla(const moira_attention_mla_desc&, const moira_attention_args&, const work_share&);
void reference_gemm(const moira_gemm_desc&, const moira_gemm_args&, const work_share&);
void reference_router_topk(const moira_router_topk_desc&, const moira_router_topk_args&, const work_share&);
void reference_expert_ffn(const moira_expert_ffn_desc&, const moira_expert_ffn_args&, const work_share&);
void reference_combine(const moira_combine_desc&, const moira_combine_args&, const work_share&);
void reference_expert_groups(const moira_expert_groups_desc&, const moira_expert_groups_args&, const work_share&);

// F32, BF16 and F16 without scales; F8_E4M3 with f32 scales per block.
bool reference_weight_supported(const moira_quantization& quantization);

// Row-major as in the checkpoint, scales behind the weights.
packing_kernels reference_packing();

} // namespace moira
