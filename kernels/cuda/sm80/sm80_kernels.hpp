// The kernels for compute capability 8.0 and later, with the signatures of cuda_kernels.hpp. Compiled for each
// architecture; sm_90 has its own products (sm90_kernels.hpp), sm_100 runs all of these.
#pragma once

#include "kernels/cuda/cuda_kernels.hpp"

namespace moira {

// Weights in tiles for mma.sync (weight_tiles.hpp), scales inside. On the host.
packing_kernels sm80_packing();
// BF16, F16 and F32 without scales; F8_E4M3 with f32 scales per block of 16m x 128; F4_E2M1 with E8M0 scales per 32 of
// K.
bool sm80_weight_supported(const moira_quantization& quantization);

// BF16, F8_E4M3 and MXFP4 weights; activations are rounded to BF16, once before each product.
int sm80_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args, const cuda_launch& launch);
const char* sm80_expert_ffn_limit(const moira_expert_ffn_desc& desc);
uint64_t sm80_expert_ffn_workspace(const moira_expert_ffn_desc& desc);

// MOIRA_COMPUTE_AUTO with BF16, F8_E4M3 and MXFP4 weights: x is rounded to BF16 once. MOIRA_COMPUTE_F32 (BF16, F16 and
// F32 weights), and F16 and F32 weights always: float32 multiply-add, for routers; not on tensor cores.
int sm80_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const cuda_launch& launch);
const char* sm80_gemm_limit(const moira_gemm_desc& desc);
uint64_t sm80_gemm_workspace(const moira_gemm_desc& desc);
// The first step of sm80_gemm alone.
int sm80_round_rows(const float* x, uint64_t x_stride, uint32_t rows, uint32_t k, uint16_t* out,
                    const cuda_launch& launch);

// Keys and values in BF16 only. kv.slot_stride and kv.value_offset: multiples of 8 elements, kv.pool aligned to 16
// bytes, else the launch is refused (cudaErrorInvalidValue).
int sm80_attention_gqa(const moira_attention_gqa_desc& desc, const moira_attention_args& args,
                       const cuda_launch& launch);
const char* sm80_attention_gqa_limit(const moira_attention_gqa_desc& desc);
uint64_t sm80_attention_gqa_workspace(const moira_attention_gqa_desc& desc);
// In latent space, kv_b_proj in BF16.
int sm80_attention_mla(const moira_attention_mla_desc& desc, const moira_attention_args& args,
                       const cuda_launch& launch);
const char* sm80_attention_mla_limit(const moira_attention_mla_desc& desc);
uint64_t sm80_attention_mla_workspace(const moira_attention_mla_desc& desc);

} // namespace moira
