#include "core/execute/op_descriptions.hpp"

namespace moira {

namespace {

std::uint32_t u32(std::int32_t value) { return static_cast<std::uint32_t>(value); }

template <class Desc>
Desc describe(std::uint32_t op, std::int32_t rows_max) {
    Desc desc{};
    desc.header.struct_size = sizeof(Desc);
    desc.header.op = op;
    desc.header.rows_max = u32(rows_max);
    return desc;
}

moira_pack_desc packing(std::uint32_t kind, std::uint32_t n, std::uint32_t k, const moira_quantization& quantization) {
    moira_pack_desc desc{};
    desc.struct_size = sizeof desc;
    desc.kind = kind;
    desc.n = n;
    desc.k = k;
    desc.compute = MOIRA_COMPUTE_AUTO;
    desc.quantization = quantization;
    return desc;
}

}  // namespace

moira_embedding_desc op_describer::embedding(std::uint32_t weight_type) const {
    auto desc = describe<moira_embedding_desc>(MOIRA_OP_EMBEDDING, limits_.rows_max);
    desc.vocabulary = u32(shape_.vocabulary);
    desc.width = u32(shape_.hidden);
    desc.weight_type = weight_type;
    return desc;
}

moira_rmsnorm_desc op_describer::rmsnorm(std::int32_t width) const {
    auto desc = describe<moira_rmsnorm_desc>(MOIRA_OP_RMSNORM, limits_.rows_max);
    desc.width = u32(width);
    desc.epsilon = static_cast<float>(shape_.norm_epsilon);
    return desc;
}

moira_rope_desc op_describer::rope(std::int32_t heads) const {
    auto desc = describe<moira_rope_desc>(MOIRA_OP_ROPE, limits_.rows_max);
    desc.heads = u32(heads);
    desc.width = u32(shape_.rope.width);
    desc.interleaved = shape_.rope.interleaved;
    desc.positions = u32(limits_.context_max);
    return desc;
}

moira_kv_append_desc op_describer::kv_append() const {
    auto desc = describe<moira_kv_append_desc>(MOIRA_OP_KV_APPEND, limits_.rows_max);
    desc.width = u32(shape_.kv_width());
    desc.kv_type = limits_.kv_type;
    desc.slots = u32(limits_.pages) * u32(limits_.page_tokens);
    return desc;
}

moira_attention_mla_desc op_describer::attention_mla(std::uint32_t weight_type) const {
    const auto& mla = *shape_.mla;
    auto desc = describe<moira_attention_mla_desc>(MOIRA_OP_ATTENTION_MLA, limits_.rows_max);
    desc.heads = u32(mla.heads);
    desc.key_dim = u32(mla.key_dim);
    desc.rope_dim = u32(mla.rope_dim);
    desc.value_dim = u32(mla.value_dim);
    desc.kv_rank = u32(mla.kv_rank);
    desc.kv_type = limits_.kv_type;
    desc.page_tokens = u32(limits_.page_tokens);
    desc.pages = u32(limits_.pages);
    desc.context_max = u32(limits_.context_max);
    desc.scale = static_cast<float>(shape_.attention_scale());
    desc.quantization = plain_weight(weight_type);
    return desc;
}

moira_attention_gqa_desc op_describer::attention_gqa() const {
    const auto& gqa = *shape_.gqa;
    auto desc = describe<moira_attention_gqa_desc>(MOIRA_OP_ATTENTION_GQA, limits_.rows_max);
    desc.heads = u32(gqa.heads);
    desc.kv_heads = u32(gqa.kv_heads);
    desc.head_dim = u32(gqa.head_dim);
    desc.kv_type = limits_.kv_type;
    desc.page_tokens = u32(limits_.page_tokens);
    desc.pages = u32(limits_.pages);
    desc.context_max = u32(limits_.context_max);
    desc.window = u32(gqa.window);
    desc.scale = static_cast<float>(shape_.attention_scale());
    return desc;
}

moira_gemm_desc op_describer::linear(const linear_form& form, const moira_quantization& weight) const {
    auto desc = describe<moira_gemm_desc>(MOIRA_OP_GEMM, limits_.rows_max);
    desc.n = u32(form.n);
    desc.k = u32(form.k);
    desc.compute = form.compute;
    desc.accumulate = form.accumulate;
    desc.has_bias = form.bias;
    desc.quantization = weight;
    return desc;
}

moira_gemm_desc op_describer::head(const moira_quantization& weight) const {
    auto desc = linear({shape_.vocabulary, shape_.hidden}, weight);
    desc.header.rows_max = u32(limits_.logits_rows_max);
    return desc;
}

moira_gemm_desc op_describer::router(const moira_quantization& weight) const {
    return linear({shape_.moe.experts, shape_.hidden, MOIRA_COMPUTE_F32}, weight);
}

moira_router_topk_desc op_describer::router_topk() const {
    const auto& moe = shape_.moe;
    auto desc = describe<moira_router_topk_desc>(MOIRA_OP_ROUTER_TOPK, limits_.rows_max);
    desc.experts = u32(moe.experts);
    desc.top_k = u32(moe.top_k);
    desc.scoring = moe.scoring == router_scoring::sigmoid ? MOIRA_SCORE_SIGMOID : MOIRA_SCORE_SOFTMAX;
    desc.has_bias = moe.choice_bias;
    desc.groups = u32(moe.groups);
    desc.groups_kept = u32(moe.groups_kept);
    desc.normalize = moe.normalize;
    desc.scale = static_cast<float>(moe.scale);
    return desc;
}

moira_expert_ffn_desc op_describer::every_row_ffn(std::int32_t inner, const moira_quantization& weight) const {
    auto desc = describe<moira_expert_ffn_desc>(MOIRA_OP_EXPERT_FFN, limits_.rows_max);
    desc.hidden = u32(shape_.hidden);
    desc.inner = u32(inner);
    desc.experts = 1;
    desc.activation = MOIRA_FFN_SILU_GATED;
    desc.quantization = weight;
    return desc;
}

moira_expert_ffn_desc op_describer::routed_experts(const moira_quantization& weight) const {
    auto desc = every_row_ffn(shape_.moe.inner, weight);
    desc.header.rows_max = u32(limits_.rows_max) * u32(shape_.moe.top_k);
    desc.experts = u32(shape_.moe.experts);
    return desc;
}

moira_expert_groups_desc op_describer::expert_groups() const {
    auto desc = describe<moira_expert_groups_desc>(MOIRA_OP_EXPERT_GROUPS, limits_.rows_max);
    desc.experts = u32(shape_.moe.experts);
    desc.top_k = u32(shape_.moe.top_k);
    return desc;
}

moira_combine_desc op_describer::combine_experts() const {
    auto desc = describe<moira_combine_desc>(MOIRA_OP_COMBINE, limits_.rows_max);
    desc.width = u32(shape_.hidden);
    desc.top_k = u32(shape_.moe.top_k);
    desc.has_shared = shape_.moe.shared_inner > 0;
    return desc;
}

moira_combine_desc op_describer::add_block() const {
    auto desc = describe<moira_combine_desc>(MOIRA_OP_COMBINE, limits_.rows_max);
    desc.width = u32(shape_.hidden);
    desc.has_shared = 1;
    return desc;
}

moira_pack_desc packing_of(const moira_gemm_desc& desc) {
    auto made = packing(MOIRA_PACK_GEMM, desc.n, desc.k, desc.quantization);
    made.compute = desc.compute;
    return made;
}

moira_pack_desc packing_of(const moira_expert_ffn_desc& desc) {
    return packing(MOIRA_PACK_EXPERT, desc.inner, desc.hidden, desc.quantization);
}

moira_pack_desc packing_of(const moira_attention_mla_desc& desc) {
    auto made = packing(MOIRA_PACK_MLA_KV, desc.heads * (desc.key_dim + desc.value_dim), desc.kv_rank, desc.quantization);
    made.heads = desc.heads;
    made.key_dim = desc.key_dim;
    made.value_dim = desc.value_dim;
    return made;
}

const moira_op_header& header_of(const op_description& description) noexcept {
    return std::visit([](const auto& desc) -> const moira_op_header& { return desc.header; }, description);
}

std::vector<op_description> ops_of_model(const model_shape& shape, const execution_limits& limits, const weight_forms& weights) {
    const op_describer describe(shape, limits);
    std::vector<op_description> ops{describe.embedding(weights.embedding), describe.rmsnorm(shape.hidden),
                                    describe.head(weights.head), describe.rope(shape.mla ? shape.mla->heads : shape.gqa->heads),
                                    describe.kv_append()};
    if (!same_quantization(weights.head, weights.linear))
        ops.emplace_back(describe.linear({shape.hidden, shape.attention_width(), MOIRA_COMPUTE_AUTO, true}, weights.linear));
    if (shape.mla)
        ops.emplace_back(describe.attention_mla(weights.kv_b));
    else
        ops.emplace_back(describe.attention_gqa());
    ops.emplace_back(describe.router_topk());
    ops.emplace_back(describe.routed_experts(weights.experts));
    ops.emplace_back(describe.combine_experts());
    return ops;
}

}  // namespace moira
