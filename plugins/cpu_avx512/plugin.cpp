// BF16 dot products (F8 weights as BF16, looked up with VBMI; keys and values too) and float32 on AVX-512.
#include "kernels/reference/reference_kernels.hpp"
#include "kernels/x86/x86_kernels.hpp"
#include "plugins/cpu_plugin/cpu_plugin.hpp"

namespace moira {

const cpu_kernels& plugin_kernels() {
    static const cpu_kernels kernels = {
        .name = "cpu_avx512",
        .requirement = "AVX-512 F, BW, VL, DQ, BF16 and VBMI",
        .numerics_id = "cpu-avx512-bf16-3",
        .score = 100,
        .features_required =
            MOIRA_CPU_AVX2_FMA_F16C | MOIRA_CPU_AVX512_F_BW_VL_DQ | MOIRA_CPU_AVX512_BF16 | MOIRA_CPU_AVX512_VBMI,
        .kv_type_wanted = MOIRA_TYPE_BF16,
        .kv_bf16_supported = true,
        .weight_supported = tile_weight_supported,
        .packing = tile_packing(),
        .embedding = reference_embedding,
        .rmsnorm = x86_rmsnorm,
        .rope = reference_rope,
        .kv_append = x86_kv_append,
        .attention_gqa = x86_attention_gqa,
        .attention_mla = x86_attention_mla,
        .gemm = x86_gemm,
        .router_topk = reference_router_topk,
        .expert_ffn = x86_expert_ffn,
        .combine = x86_combine,
        .expert_groups = reference_expert_groups,
    };
    return kernels;
}

} // namespace moira
