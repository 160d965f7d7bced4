#include "tools/moira/op_cost.hpp"

namespace moira {

namespace {

template <class Desc>
const Desc& as(const moira_op_header& header) {
    return reinterpret_cast<const Desc&>(header);
}

std::uint64_t bits_of(std::uint32_t type) {
    switch (type) {
    case MOIRA_TYPE_F32:
        return 32;
    case MOIRA_TYPE_BF16:
    case MOIRA_TYPE_F16:
        return 16;
    case MOIRA_TYPE_F4_E2M1:
        return 4;
    default:
        return 8;
    }
}

std::uint64_t scales_of(std::uint64_t n, std::uint64_t k, const moira_quantization& quantization) {
    const auto blocks = [](std::uint64_t size, std::uint64_t block) {
        return block > 0 ? (size + block - 1) / block : 1;
    };
    switch (quantization.scale_mode) {
    case MOIRA_SCALE_TENSOR:
        return 1;
    case MOIRA_SCALE_CHANNEL:
        return n;
    case MOIRA_SCALE_BLOCK:
        return blocks(n, quantization.block_n) * blocks(k, quantization.block_k);
    default:
        return 0;
    }
}

constexpr std::uint64_t float_bytes = sizeof(float);

/// An op that reads and writes `values` floats and computes next to nothing.
op_cost moved(std::uint64_t values) {
    return {values * float_bytes, 0, false, false};
}

op_cost gemm_cost(const moira_gemm_desc& desc, std::uint64_t rows) {
    const std::uint64_t n = desc.n, k = desc.k;
    return {weight_bytes_of(n, k, desc.quantization), 2 * rows * n * k, true,
            desc.compute == MOIRA_COMPUTE_AUTO && desc.quantization.weight_type != MOIRA_TYPE_F32};
}

op_cost expert_cost(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args) {
    const std::uint64_t inner = desc.inner, hidden = desc.hidden;
    const auto expert_bytes =
        2 * weight_bytes_of(inner, hidden, desc.quantization) + weight_bytes_of(hidden, inner, desc.quantization);
    return {args.groups * expert_bytes, 2 * 3 * args.pairs * inner * hidden, true,
            desc.quantization.weight_type != MOIRA_TYPE_F32};
}

op_cost gqa_cost(const moira_attention_gqa_desc& desc, const attended_context& context) {
    const std::uint64_t width = std::uint64_t{desc.kv_heads} * desc.head_dim * 2;
    return {context.kv_positions * width * bits_of(desc.kv_type) / 8,
            2 * 2 * context.row_positions * desc.heads * desc.head_dim, true, desc.kv_type == MOIRA_TYPE_BF16};
}

op_cost mla_cost(const moira_attention_mla_desc& desc, std::uint64_t rows, const attended_context& context) {
    const std::uint64_t heads = desc.heads, rank = desc.kv_rank;
    const auto absorbed = 2 * rows * heads * rank * (desc.key_dim + desc.value_dim);
    const auto attended = 2 * context.row_positions * heads * (rank + desc.rope_dim + rank);
    const auto weights = weight_bytes_of(heads * (desc.key_dim + desc.value_dim), rank, desc.quantization);
    return {context.kv_positions * (rank + desc.rope_dim) * bits_of(desc.kv_type) / 8 + weights, absorbed + attended,
            true, desc.kv_type == MOIRA_TYPE_BF16 || desc.quantization.weight_type != MOIRA_TYPE_F32};
}

op_cost combine_cost(const moira_combine_desc& desc, std::uint64_t rows) {
    return moved(rows * desc.width * (std::uint64_t{desc.top_k} + desc.has_shared + 2));
}

std::string product_name(std::uint64_t n, std::uint64_t k, const moira_quantization& quantization) {
    return std::to_string(n) + " x " + std::to_string(k) + " " + weight_type_name(quantization.weight_type);
}

} // namespace

std::uint64_t weight_bytes_of(std::uint64_t n, std::uint64_t k, const moira_quantization& quantization) {
    return (n * k * bits_of(quantization.weight_type) + 7) / 8 +
           scales_of(n, k, quantization) * bits_of(quantization.scale_type) / 8;
}

std::string weight_type_name(std::uint32_t type) {
    constexpr const char* names[] = {"f32", "bf16", "f16", "f8_e4m3", "f8_e8m0", "f4_e2m1"};
    return type < std::size(names) ? names[type] : "type " + std::to_string(type);
}

op_cost cost_of(const bound_launch& launch, const attended_context& context) {
    const auto& desc = launch.op->desc();
    if (desc.op == MOIRA_OP_EXPERT_FFN)
        return expert_cost(as<moira_expert_ffn_desc>(desc), *static_cast<const moira_expert_ffn_args*>(launch.args));
    // All other arguments begin with their rows.
    const std::uint64_t rows = *static_cast<const std::uint32_t*>(launch.args);
    switch (desc.op) {
    case MOIRA_OP_EMBEDDING:
        return {rows * as<moira_embedding_desc>(desc).width *
                    (bits_of(as<moira_embedding_desc>(desc).weight_type) / 8 + float_bytes),
                0, false, false};
    case MOIRA_OP_RMSNORM:
        return moved(2 * rows * as<moira_rmsnorm_desc>(desc).width *
                     static_cast<const moira_rmsnorm_args*>(launch.args)->groups);
    case MOIRA_OP_ROPE:
        return moved(rows * as<moira_rope_desc>(desc).width * (2 * std::uint64_t{as<moira_rope_desc>(desc).heads} + 1));
    case MOIRA_OP_KV_APPEND:
        return {rows * as<moira_kv_append_desc>(desc).width *
                    (float_bytes + bits_of(as<moira_kv_append_desc>(desc).kv_type) / 8),
                0, false, false};
    case MOIRA_OP_ATTENTION_GQA:
        return gqa_cost(as<moira_attention_gqa_desc>(desc), context);
    case MOIRA_OP_ATTENTION_MLA:
        return mla_cost(as<moira_attention_mla_desc>(desc), rows, context);
    case MOIRA_OP_GEMM:
        return gemm_cost(as<moira_gemm_desc>(desc), rows);
    case MOIRA_OP_ROUTER_TOPK:
        return moved(rows * (as<moira_router_topk_desc>(desc).experts + 2 * as<moira_router_topk_desc>(desc).top_k));
    case MOIRA_OP_COMBINE:
        return combine_cost(as<moira_combine_desc>(desc), rows);
    case MOIRA_OP_EXPERT_GROUPS: // an id in, a pair out
        return moved(3 * rows * as<moira_expert_groups_desc>(desc).top_k);
    default:
        return {};
    }
}

std::string op_detail(const moira_op_header& desc) {
    switch (desc.op) {
    case MOIRA_OP_EMBEDDING:
        return std::to_string(as<moira_embedding_desc>(desc).width) + " " +
               weight_type_name(as<moira_embedding_desc>(desc).weight_type);
    case MOIRA_OP_RMSNORM:
        return std::to_string(as<moira_rmsnorm_desc>(desc).width);
    case MOIRA_OP_ROPE:
        return std::to_string(as<moira_rope_desc>(desc).heads) + " heads of " +
               std::to_string(as<moira_rope_desc>(desc).width);
    case MOIRA_OP_KV_APPEND:
        return std::to_string(as<moira_kv_append_desc>(desc).width);
    case MOIRA_OP_ATTENTION_GQA: {
        const auto& gqa = as<moira_attention_gqa_desc>(desc);
        return std::to_string(gqa.heads) + " over " + std::to_string(gqa.kv_heads) + " heads of " +
               std::to_string(gqa.head_dim) + " " + weight_type_name(gqa.kv_type);
    }
    case MOIRA_OP_ATTENTION_MLA: {
        const auto& mla = as<moira_attention_mla_desc>(desc);
        return std::to_string(mla.heads) + " heads, latent " + std::to_string(mla.kv_rank) + " + " +
               std::to_string(mla.rope_dim) + " " + weight_type_name(mla.kv_type);
    }
    case MOIRA_OP_GEMM:
        return product_name(as<moira_gemm_desc>(desc).n, as<moira_gemm_desc>(desc).k,
                            as<moira_gemm_desc>(desc).quantization);
    case MOIRA_OP_ROUTER_TOPK:
        return std::to_string(as<moira_router_topk_desc>(desc).top_k) + " of " +
               std::to_string(as<moira_router_topk_desc>(desc).experts);
    case MOIRA_OP_EXPERT_FFN: {
        const auto& ffn = as<moira_expert_ffn_desc>(desc);
        return std::to_string(ffn.experts) + " of " + product_name(ffn.inner, ffn.hidden, ffn.quantization);
    }
    case MOIRA_OP_COMBINE:
        return std::to_string(as<moira_combine_desc>(desc).width);
    case MOIRA_OP_EXPERT_GROUPS:
        return std::to_string(as<moira_expert_groups_desc>(desc).top_k) + " of " +
               std::to_string(as<moira_expert_groups_desc>(desc).experts);
    default:
        return "";
    }
}

} // namespace moira
