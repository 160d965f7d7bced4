// The SIMD kernels. The same sources are compiled once per vector unit into libraries that are never linked together.
//
// Weights lie in tiles of 64 output columns (see tile_packing.cpp), so that a lane is a column: one sum per column,
// added in K order for any number of rows. That makes a row's bits independent of its neighbours and of the team.
//   F32 and F16 weights, everything with MOIRA_COMPUTE_F32, and everything on AVX2: float32 multiply-add, activations
//   exact.
//   BF16 and F8_E4M3 weights with MOIRA_COMPUTE_AUTO on AVX-512: pairs by BF16 dot product, activations rounded to
//   BF16; every E4M3 number is one of BF16's. The instruction takes subnormals for 0. F8_E4M3 with f32 scales: one
//   partial sum per block of K, then one multiply-add with its scale.
//   Keys and values in BF16 on AVX-512: scores and weighted values by BF16 dot product too (attention_bf16.cpp).
// Norms, softmax and activations are float32 everywhere; exponentials are within 2 ulp (simd.hpp).
// Ops that are missing here run as in the reference: embedding, rope and router_topk.
#pragma once

#include "kernels/cpu_kernels.hpp"

namespace moira {

void x86_rmsnorm(const moira_rmsnorm_desc&, const moira_rmsnorm_args&, const work_share&);
void x86_kv_append(const moira_kv_append_desc&, const moira_kv_append_args&, const work_share&); // AVX-512 only
void x86_combine(const moira_combine_desc&, const moira_combine_args&, const work_share&);
void x86_attention_gqa(const moira_attention_gqa_desc&, const moira_attention_args&, const work_share&);
void x86_attention_mla(const moira_attention_mla_desc&, const moira_attention_args&, const work_share&);
void x86_gemm(const moira_gemm_desc&, const moira_gemm_args&, const work_share&);
void x86_expert_ffn(const moira_expert_ffn_desc&, const moira_expert_ffn_args&, const work_share&);

// F32, BF16, F16 without scales; F8_E4M3 with f32 scales in blocks whose rows are a multiple of 64.
bool tile_weight_supported(const moira_quantization& quantization);
packing_kernels tile_packing();

} // namespace moira
