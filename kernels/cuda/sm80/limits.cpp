// What the kernels cannot do, and the workspace that they need. Plain C++: asked before anything is launched.
#include "kernels/cuda/sm80/attention_plan.hpp"
#include "kernels/cuda/sm80/expert_ffn_plan.hpp"
#include "kernels/cuda/sm80/gemm_plan.hpp"

namespace moira {

const char* sm80_expert_ffn_limit(const moira_expert_ffn_desc& desc) {
    const uint32_t type = desc.quantization.weight_type;
    if (type == MOIRA_TYPE_F32 || type == MOIRA_TYPE_F16)
        return "expert_ffn on CUDA multiplies BF16, F8_E4M3 and MXFP4 weights; F32 and F16 experts are not supported";
    if (!sm80_weight_supported(desc.quantization))
        return "expert_ffn on CUDA needs F8_E4M3 with f32 scales per block of 16m x 128, or MXFP4 with E8M0 scales per "
               "32 of K, or BF16 without scales, and no quantised activations";
    // blockIdx.y counts tiles, at most one per pair and one more per eight of them.
    if (uint64_t{desc.header.rows_max} + desc.header.rows_max / 8 > 65535)
        return "expert_ffn on CUDA takes at most 58,253 pairs in one launch";
    return nullptr;
}

uint64_t sm80_expert_ffn_workspace(const moira_expert_ffn_desc& desc) {
    // The most groups and the smallest tiles need the most room for the table of tiles.
    const uint32_t pairs = desc.header.rows_max;
    return plan_expert_ffn(desc, pairs, pairs).bytes;
}

const char* sm80_gemm_limit(const moira_gemm_desc& desc) {
    if (!sm80_weight_supported(desc.quantization))
        return "gemm on CUDA needs F8_E4M3 with f32 scales per block of 16m x 128, or MXFP4 with E8M0 scales per 32 of "
               "K, or BF16, F16 or F32 without scales, and no quantised activations";
    if (desc.compute == MOIRA_COMPUTE_F32 && desc.quantization.scale_mode != MOIRA_SCALE_NONE)
        return "gemm in float32 on CUDA takes BF16, F16 and F32 weights; F8_E4M3 and MXFP4 only with automatic "
               "precision";
    constexpr uint32_t rows_max = 65535 * gemm_exact_rows; // blockIdx.y counts blocks of rows
    if (desc.header.rows_max > rows_max)
        return "gemm on CUDA takes at most 262,140 rows in one launch";
    return nullptr;
}

uint64_t sm80_gemm_workspace(const moira_gemm_desc& desc) {
    return gemm_is_exact(desc) ? 0 : uint64_t{desc.header.rows_max} * gemm_args_of(desc, {}).x_width * 2;
}

namespace {

constexpr uint32_t attention_rows_max = 65535; // blockIdx.z and blockIdx.y count rows

const char* kv_type_limit(uint32_t kv_type) {
    return kv_type == MOIRA_TYPE_BF16 ? nullptr : "attention on CUDA reads keys and values in BF16 only";
}

} // namespace

const char* sm80_attention_gqa_limit(const moira_attention_gqa_desc& desc) {
    if (const char* limit = kv_type_limit(desc.kv_type))
        return limit;
    if (desc.head_dim > 256 || desc.head_dim % 8 != 0)
        return "attention_gqa on CUDA takes heads of at most 256 dimensions, a multiple of 8";
    if (desc.header.rows_max > attention_rows_max)
        return "attention on CUDA takes at most 65,535 rows in one launch";
    return nullptr;
}

uint64_t sm80_attention_gqa_workspace(const moira_attention_gqa_desc& desc) {
    return plan_attention_gqa(desc, desc.header.rows_max).bytes_max;
}

const char* sm80_attention_mla_limit(const moira_attention_mla_desc& desc) {
    if (const char* limit = kv_type_limit(desc.kv_type))
        return limit;
    if (desc.quantization.weight_type != MOIRA_TYPE_BF16 || desc.quantization.scale_mode != MOIRA_SCALE_NONE)
        return "attention_mla on CUDA reads kv_b_proj in BF16 without scales only";
    if (desc.kv_rank > 512 || desc.kv_rank + desc.rope_dim > 576 || desc.kv_rank % 8 != 0 || desc.rope_dim % 8 != 0)
        return "attention_mla on CUDA takes latents of at most 512 dimensions and with the rotary part 576, multiples "
               "of 8";
    if (desc.header.rows_max > attention_rows_max)
        return "attention on CUDA takes at most 65,535 rows in one launch";
    return nullptr;
}

uint64_t sm80_attention_mla_workspace(const moira_attention_mla_desc& desc) {
    return plan_attention_mla(desc, desc.header.rows_max).bytes_max;
}

} // namespace moira
