// The oracle as a plugin: scalar float32, any processor.
#include "kernels/reference/reference_kernels.hpp"
#include "plugins/cpu_plugin/cpu_plugin.hpp"

namespace moira {

const cpu_kernels& plugin_kernels() {
    static const cpu_kernels kernels = {
        .name = "cpu_reference",
        .requirement = "any processor",
        .numerics_id = "cpu-ref-f32",
        .score = 1,
        .features_required = 0,
        .kv_type_wanted = MOIRA_TYPE_F32,
        .kv_bf16_supported = true,
        .weight_supported = reference_weight_supported,
        .packing = reference_packing(),
        .embedding = reference_embedding,
        .rmsnorm = reference_rmsnorm,
        .rope = reference_rope,
        .kv_append = reference_kv_append,
        .attention_gqa = reference_attention_gqa,
        .attention_mla = reference_attention_mla,
        .gemm = reference_gemm,
        .router_topk = reference_router_topk,
        .expert_ffn = reference_expert_ffn,
        .combine = reference_combine,
        .expert_groups = reference_expert_groups,
    };
    return kernels;
}

} // namespace moira
