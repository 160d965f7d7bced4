#include "kernels/op_plan.hpp"
#include "kernels/packed_layout.hpp"
#include "plugins/plugin_base/plugin_base.hpp"

#include <cmath>
#include <cstring>

namespace moira {

namespace {

// Bounds that keep every product of three dimensions and four bytes far below 2^64, and no real model near them.
constexpr uint32_t rows_limit = 1u << 20;
constexpr uint32_t dimension_limit = 1u << 20; // hidden, inner, heads * head_dim, vocabulary
constexpr uint32_t head_limit = 1u << 12;
constexpr uint32_t head_dim_limit = 1u << 14;
constexpr uint32_t slots_limit = (1u << 31) - 1; // slots are int32
constexpr uint64_t descriptor_bytes_limit = 4096;

struct bound {
    const char* name;
    uint64_t value;
    uint64_t minimum;
    uint64_t maximum;
};

template <size_t count>
moira_status check_bounds(const bound (&bounds)[count]) {
    for (const bound& b : bounds)
        if (b.value < b.minimum || b.value > b.maximum)
            return report(MOIRA_INVALID_ARGUMENT, "%s is %llu, expected %llu to %llu", b.name,
                          static_cast<unsigned long long>(b.value), static_cast<unsigned long long>(b.minimum),
                          static_cast<unsigned long long>(b.maximum));
    return MOIRA_OK;
}

moira_status check_finite(const char* name, float value) {
    return std::isfinite(value) ? MOIRA_OK : report(MOIRA_INVALID_ARGUMENT, "%s is not a finite number", name);
}

moira_status check_weight(const op_capabilities& plugin, const moira_quantization& quantization) {
    if (plugin.weight_supported(quantization))
        return MOIRA_OK;
    return report(
        MOIRA_UNSUPPORTED,
        "%s has no kernel for weight type %u with scale mode %u, scale type %u, blocks %u x %u, activation %u",
        plugin.name, quantization.weight_type, quantization.scale_mode, quantization.scale_type, quantization.block_n,
        quantization.block_k, quantization.activation);
}

moira_status check_kv_type(const op_capabilities& plugin, uint32_t kv_type) {
    if (kv_type == MOIRA_TYPE_F32 || (kv_type == MOIRA_TYPE_BF16 && plugin.kv_bf16_supported))
        return MOIRA_OK;
    return report(MOIRA_UNSUPPORTED, "%s keeps keys and values as F32%s, found type %u", plugin.name,
                  plugin.kv_bf16_supported ? " or BF16" : " only", kv_type);
}

moira_status check_pages(uint32_t page_tokens, uint32_t pages, uint32_t context_max) {
    const bound bounds[] = {{"page_tokens", page_tokens, 1, dimension_limit},
                            {"pages", pages, 1, slots_limit},
                            {"pages * page_tokens", uint64_t{pages} * page_tokens, 1, slots_limit},
                            {"context_max", context_max, 1, slots_limit}};
    return check_bounds(bounds);
}

moira_status check(const op_capabilities&, const moira_embedding_desc& desc) {
    if (desc.weight_type != MOIRA_TYPE_F32 && desc.weight_type != MOIRA_TYPE_BF16 && desc.weight_type != MOIRA_TYPE_F16)
        return report(MOIRA_UNSUPPORTED, "embedding tables may be F32, BF16 or F16, found type %u", desc.weight_type);
    const bound bounds[] = {{"vocabulary", desc.vocabulary, 1, slots_limit}, {"width", desc.width, 1, dimension_limit}};
    return check_bounds(bounds);
}

moira_status check(const op_capabilities&, const moira_rmsnorm_desc& desc) {
    const bound bounds[] = {{"width", desc.width, 1, dimension_limit}};
    if (const moira_status status = check_bounds(bounds))
        return status;
    return desc.epsilon >= 0.0f
               ? check_finite("epsilon", desc.epsilon)
               : report(MOIRA_INVALID_ARGUMENT, "epsilon is %g, expected 0 or more", static_cast<double>(desc.epsilon));
}

moira_status check(const op_capabilities&, const moira_rope_desc& desc) {
    const bound bounds[] = {{"heads", desc.heads, 1, head_limit},
                            {"width", desc.width, 2, head_dim_limit},
                            {"width mod 2", desc.width % 2, 0, 0},
                            {"interleaved", desc.interleaved, 0, 1},
                            {"positions", desc.positions, 1, slots_limit}};
    return check_bounds(bounds);
}

moira_status check(const op_capabilities& plugin, const moira_kv_append_desc& desc) {
    if (const moira_status status = check_kv_type(plugin, desc.kv_type))
        return status;
    const bound bounds[] = {{"width", desc.width, 1, dimension_limit}, {"slots", desc.slots, 1, slots_limit}};
    return check_bounds(bounds);
}

moira_status check(const op_capabilities& plugin, const moira_attention_gqa_desc& desc) {
    const bound bounds[] = {{"heads", desc.heads, 1, head_limit},
                            {"kv_heads", desc.kv_heads, 1, desc.heads},
                            {"head_dim", desc.head_dim, 1, head_dim_limit},
                            {"sinks", desc.sinks, 0, 1}};
    if (const moira_status status = check_bounds(bounds))
        return status;
    if (desc.heads % desc.kv_heads != 0)
        return report(MOIRA_INVALID_ARGUMENT, "heads (%u) is not a multiple of kv_heads (%u)", desc.heads,
                      desc.kv_heads);
    if (const moira_status status = check_finite("scale", desc.scale))
        return status;
    if (const moira_status status = check_kv_type(plugin, desc.kv_type))
        return status;
    return check_pages(desc.page_tokens, desc.pages, desc.context_max);
}

moira_status check(const op_capabilities& plugin, const moira_attention_mla_desc& desc) {
    const bound bounds[] = {{"heads", desc.heads, 1, head_limit},
                            {"key_dim", desc.key_dim, 1, head_dim_limit},
                            {"rope_dim", desc.rope_dim, 0, head_dim_limit},
                            {"value_dim", desc.value_dim, 1, head_dim_limit},
                            {"kv_rank", desc.kv_rank, 1, head_dim_limit}};
    if (const moira_status status = check_bounds(bounds))
        return status;
    if (const moira_status status = check_finite("scale", desc.scale))
        return status;
    if (const moira_status status = check_kv_type(plugin, desc.kv_type))
        return status;
    if (const moira_status status = check_pages(desc.page_tokens, desc.pages, desc.context_max))
        return status;
    if (desc.quantization.scale_mode != MOIRA_SCALE_NONE)
        return report(MOIRA_UNSUPPORTED, "attention_mla reads kv_b_proj without scales only: widen it to BF16 or F32");
    return check_weight(plugin, desc.quantization);
}

moira_status check(const op_capabilities& plugin, const moira_gemm_desc& desc) {
    const bound bounds[] = {{"n", desc.n, 1, dimension_limit},
                            {"k", desc.k, 1, dimension_limit},
                            {"compute", desc.compute, MOIRA_COMPUTE_F32, MOIRA_COMPUTE_LIBRARY},
                            {"accumulate", desc.accumulate, 0, 1},
                            {"has_bias", desc.has_bias, 0, 1}};
    if (const moira_status status = check_bounds(bounds))
        return status;
    if (desc.compute == MOIRA_COMPUTE_LIBRARY && !plugin.gemm_library_supported)
        return report(MOIRA_UNSUPPORTED, "%s has no library for gemm", plugin.name);
    return check_weight(plugin, desc.quantization);
}

moira_status check(const op_capabilities&, const moira_router_topk_desc& desc) {
    const bound bounds[] = {{"experts", desc.experts, 1, router_experts_max},
                            {"top_k", desc.top_k, 1, desc.experts},
                            {"scoring", desc.scoring, MOIRA_SCORE_SOFTMAX, MOIRA_SCORE_SQRT_SOFTPLUS},
                            {"has_bias", desc.has_bias, 0, 1},
                            {"groups", desc.groups, 1, desc.experts},
                            {"normalize", desc.normalize, 0, 1}};
    if (const moira_status status = check_bounds(bounds))
        return status;
    const bound group_bounds[] = {{"experts mod groups", desc.experts % desc.groups, 0, 0},
                                  {"groups_kept", desc.groups_kept, desc.groups > 1 ? 1u : 0u, desc.groups}};
    if (const moira_status status = check_bounds(group_bounds))
        return status;
    return check_finite("scale", desc.scale);
}

moira_status check(const op_capabilities& plugin, const moira_expert_ffn_desc& desc) {
    const bound bounds[] = {{"hidden", desc.hidden, 1, dimension_limit},
                            {"inner", desc.inner, 1, dimension_limit},
                            {"experts", desc.experts, 1, dimension_limit},
                            {"activation", desc.activation, MOIRA_FFN_SILU_GATED, MOIRA_FFN_CLAMPED_SWIGLU}};
    if (const moira_status status = check_bounds(bounds))
        return status;
    if (desc.activation == MOIRA_FFN_CLAMPED_SWIGLU) {
        if (const moira_status status = check_finite("alpha", desc.alpha))
            return status;
        if (!(desc.limit > 0.0f))
            return report(MOIRA_INVALID_ARGUMENT, "limit is %g, expected more than 0", static_cast<double>(desc.limit));
    }
    return check_weight(plugin, desc.quantization);
}

moira_status check(const op_capabilities&, const moira_combine_desc& desc) {
    const bound bounds[] = {{"width", desc.width, 1, dimension_limit},
                            {"top_k", desc.top_k, 0, head_limit},
                            {"has_shared", desc.has_shared, 0, 1}};
    return check_bounds(bounds);
}

moira_status check(const op_capabilities&, const moira_expert_groups_desc& desc) {
    // Places of pairs are int32.
    const bound bounds[] = {{"experts", desc.experts, 1, dimension_limit},
                            {"top_k", desc.top_k, 1, head_limit},
                            {"rows_max * top_k", uint64_t{desc.header.rows_max} * desc.top_k, 1, slots_limit}};
    return check_bounds(bounds);
}

// Takes what this version knows. A longer descriptor comes from a newer host: its further fields must all be 0.
template <class Desc>
moira_status take(const moira_op_header* header, Desc& desc) {
    if (header->struct_size < sizeof(Desc) || header->struct_size > descriptor_bytes_limit)
        return report(MOIRA_INVALID_ARGUMENT, "the descriptor of op %u has struct_size %llu, expected %zu", header->op,
                      static_cast<unsigned long long>(header->struct_size), sizeof(Desc));
    const auto* bytes = reinterpret_cast<const unsigned char*>(header);
    for (uint64_t i = sizeof(Desc); i < header->struct_size; ++i)
        if (bytes[i] != 0)
            return report(MOIRA_UNSUPPORTED, "the descriptor of op %u sets a field that this version does not know",
                          header->op);
    std::memcpy(&desc, header, sizeof(Desc));
    return MOIRA_OK;
}

template <class Desc>
moira_status take_and_check(const op_capabilities& plugin, const moira_op_header* header, Desc& desc) {
    if (const moira_status status = take(header, desc))
        return status;
    const bound bounds[] = {{"rows_max", desc.header.rows_max, 1, rows_limit}};
    if (const moira_status status = check_bounds(bounds))
        return status;
    return check(plugin, desc);
}

} // namespace

moira_status check_op(const op_capabilities& plugin, const moira_op_header* header, any_op_desc& desc) {
    if (!header || header->struct_size < sizeof(moira_op_header))
        return report(MOIRA_INVALID_ARGUMENT, "there is no op descriptor, or its struct_size is below %zu",
                      sizeof(moira_op_header));
    switch (header->op) {
    case MOIRA_OP_EMBEDDING:
        return take_and_check(plugin, header, desc.embedding);
    case MOIRA_OP_RMSNORM:
        return take_and_check(plugin, header, desc.rmsnorm);
    case MOIRA_OP_ROPE:
        return take_and_check(plugin, header, desc.rope);
    case MOIRA_OP_KV_APPEND:
        return take_and_check(plugin, header, desc.kv_append);
    case MOIRA_OP_ATTENTION_GQA:
        return take_and_check(plugin, header, desc.attention_gqa);
    case MOIRA_OP_ATTENTION_MLA:
        return take_and_check(plugin, header, desc.attention_mla);
    case MOIRA_OP_GEMM:
        return take_and_check(plugin, header, desc.gemm);
    case MOIRA_OP_ROUTER_TOPK:
        return take_and_check(plugin, header, desc.router_topk);
    case MOIRA_OP_EXPERT_FFN:
        return take_and_check(plugin, header, desc.expert_ffn);
    case MOIRA_OP_COMBINE:
        return take_and_check(plugin, header, desc.combine);
    case MOIRA_OP_EXPERT_GROUPS:
        return take_and_check(plugin, header, desc.expert_groups);
    default:
        return report(MOIRA_UNSUPPORTED, "%s has no op %u; the last one is %u", plugin.name, header->op,
                      unsigned{MOIRA_OP_COUNT} - 1);
    }
}

} // namespace moira
