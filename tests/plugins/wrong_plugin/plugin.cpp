// A plugin that computes like the reference, with one mistake in each of several ops: what conformance must find.
#include "kernels/reference/reference_kernels.hpp"
#include "plugins/cpu_plugin/cpu_plugin.hpp"

namespace moira {
namespace {

// Far outside the tolerance, on one element of one row.
void wrong_rmsnorm(const moira_rmsnorm_desc& desc, const moira_rmsnorm_args& args, const work_share& share) {
    reference_rmsnorm(desc, args, share);
    if (share.begin == 0 && share.end > 0)
        args.out[desc.width - 1] += 0.001f;
}

// One unit in the last place, only when many rows run together: within the tolerance, but not row-exact.
void wrong_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const work_share& share) {
    reference_gemm(desc, args, share);
    if (args.rows > 4 && share.end == plan_phase(desc.header, &args, 0).units)
        args.out[(args.rows - 1) * args.out_stride + desc.n - 1] *= 1.0f + 0x1p-23f;
}

// The same, only in a member that is not alone.
void wrong_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args, const work_share& share) {
    reference_expert_ffn(desc, args, share);
    if (share.phase == 1 && share.begin > 0 && share.end == plan_phase(desc.header, &args, 1).units)
        args.out[uint64_t(args.pair_table[args.pairs - 1].out_row) * args.out_stride + desc.hidden - 1] *=
            1.0f + 0x1p-23f;
}

// Reads keys behind the row's context.
void wrong_attention_gqa(const moira_attention_gqa_desc& desc, const moira_attention_args& args,
                         const work_share& share) {
    reference_attention_gqa(desc, args, share);
    if (share.begin != 0 || share.end == 0 || args.page_table_entries == 0)
        return;
    const int32_t page = args.kv.page_table[args.page_table_entries - 1];
    if (page < 0 || uint32_t(page) >= desc.pages)
        return;
    const uint64_t slot = uint64_t(page) * desc.page_tokens + desc.page_tokens - 1;
    args.out[0] += 0.0f * static_cast<const float*>(args.kv.pool)[slot * args.kv.slot_stride];
}

// Among equal choices the later one wins.
void wrong_router_topk(const moira_router_topk_desc& desc, const moira_router_topk_args& args,
                       const work_share& share) {
    reference_router_topk(desc, args, share);
    for (uint64_t row = share.begin; row < share.end && desc.top_k > 1; ++row) {
        int32_t* ids = args.ids + row * desc.top_k;
        const float* logits = args.logits + row * args.logits_stride;
        if (logits[ids[0]] == logits[ids[1]]) {
            const int32_t first = ids[0];
            ids[0] = ids[1];
            ids[1] = first;
        }
    }
}

// Writes one element too far.
void wrong_combine(const moira_combine_desc& desc, const moira_combine_args& args, const work_share& share) {
    reference_combine(desc, args, share);
    if (share.end == args.rows && args.rows > 0)
        args.residual[uint64_t{args.rows} * desc.width] = 0.0f;
}

} // namespace

const cpu_kernels& plugin_kernels() {
    static const cpu_kernels kernels = {
        .name = "wrong_plugin",
        .requirement = "any processor",
        .numerics_id = "wrong",
        .score = 1,
        .features_required = 0,
        .weight_supported = reference_weight_supported,
        .packing = reference_packing(),
        .embedding = reference_embedding,
        .rmsnorm = wrong_rmsnorm,
        .rope = reference_rope,
        .kv_append = reference_kv_append,
        .attention_gqa = wrong_attention_gqa,
        .attention_mla = reference_attention_mla,
        .gemm = wrong_gemm,
        .router_topk = wrong_router_topk,
        .expert_ffn = wrong_expert_ffn,
        .combine = wrong_combine,
        .expert_groups = reference_expert_groups,
    };
    return kernels;
}

} // namespace moira
