// float32 on AVX2.
#include "kernels/reference/reference_kernels.hpp"
#include "kernels/x86/x86_kernels.hpp"
#include "plugins/cpu_plugin/cpu_plugin.hpp"

namespace moira {

const cpu_kernels& plugin_kernels() {
    static const cpu_kernels kernels = {
        .name = "cpu_avx2",
        .requirement = "AVX2, FMA and F16C",
        .numerics_id = "cpu-avx2-f32",
        .score = 50,
        .features_required = MOIRA_CPU_AVX2_FMA_F16C,
        .kv_type_wanted = MOIRA_TYPE_F32,
        .kv_bf16_supported = false,
        .weight_supported = tile_weight_supported,
        .packing = tile_packing(),
        .embedding = reference_embedding,
        .rmsnorm = x86_rmsnorm,
        .rope = reference_rope,
        .kv_append = reference_kv_append,
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
