// The few checks of a launch that cost nothing beside its work and keep a host's mistake from becoming a wild read.
#include "plugins/cpu_plugin/cpu_plugin.hpp"

namespace moira {

namespace {

template <class T>
const T& as(const void* address) {
    return *static_cast<const T*>(address);
}

moira_status check_rows(const moira_op& op, uint32_t rows) {
    if (rows <= op.desc.header.rows_max)
        return MOIRA_OK;
    return report(MOIRA_INVALID_ARGUMENT, "op %u was launched with %u rows but prepared for %u", op.desc.header.op,
                  rows, op.desc.header.rows_max);
}

moira_status check_pointers(const moira_op& op, bool complete) {
    return complete
               ? MOIRA_OK
               : report(MOIRA_INVALID_ARGUMENT, "op %u was launched without one of its addresses", op.desc.header.op);
}

moira_status check_attention(const moira_op& op, const moira_attention_args& args, bool complete) {
    if (const moira_status status = check_rows(op, args.rows))
        return status;
    const bool no_workspace = op.workspace.shared_bytes + op.workspace.scratch_bytes == 0;
    complete = complete && (no_workspace || args.workspace) && args.q && args.row_table && args.kv.pool &&
               args.kv.page_table && args.out;
    if (const moira_status status = check_pointers(op, complete))
        return status;
    for (uint32_t row = 0; row < args.rows; ++row)
        if (args.row_table[row].parent != -1)
            return report(MOIRA_UNSUPPORTED, "row %u has parent %d; candidate trees are not supported, expected -1",
                          row, args.row_table[row].parent);
    return MOIRA_OK;
}

moira_status check_pairs(const moira_expert_pair* pairs, const moira_expert_group& group) {
    for (uint32_t index = group.pair_begin; index < group.pair_begin + group.pair_count; ++index)
        if (pairs[index].row < 0 || pairs[index].out_row < 0)
            return report(MOIRA_INVALID_ARGUMENT, "pair %u reads row %d and writes row %d, expected 0 or more", index,
                          pairs[index].row, pairs[index].out_row);
    return MOIRA_OK;
}

moira_status check_groups(const moira_op& op, const moira_expert_groups_args& args) {
    if (const moira_status status = check_rows(op, args.rows))
        return status;
    const bool complete =
        args.ids && args.generations && args.group_table && args.pair_table && args.group_count && args.workspace;
    return check_pointers(op, args.rows == 0 || complete);
}

moira_status check_expert(const moira_op& op, const moira_expert_ffn_args& args) {
    if (const moira_status status = check_rows(op, args.pairs))
        return status;
    if (args.pairs == 0 || args.groups == 0)
        return MOIRA_OK;
    const bool complete = args.x && args.table && args.group_table && args.pair_table && args.out && args.workspace;
    if (const moira_status status = check_pointers(op, complete))
        return status;
    uint64_t total = 0;
    for (uint32_t index = 0; index < expert_group_count(args); ++index) {
        const moira_expert_group& group = args.group_table[index];
        total += group.pair_count;
        if (uint64_t{group.pair_begin} + group.pair_count > args.pairs || total > args.pairs)
            return report(MOIRA_INVALID_ARGUMENT, "group %u covers pairs %u + %u of %u", index, group.pair_begin,
                          group.pair_count, args.pairs);
        if (const moira_status status = check_pairs(args.pair_table, group))
            return status;
    }
    return MOIRA_OK;
}

} // namespace

moira_status check_launch(const moira_op& op, const void* args) {
    switch (op.desc.header.op) {
    case MOIRA_OP_EMBEDDING: {
        const auto& a = as<moira_embedding_args>(args);
        const moira_status status = check_rows(op, a.rows);
        return status ? status : check_pointers(op, a.rows == 0 || (a.token_ids && a.table && a.out));
    }
    case MOIRA_OP_RMSNORM: {
        const auto& a = as<moira_rmsnorm_args>(args);
        const moira_status status = check_rows(op, a.rows);
        return status ? status : check_pointers(op, a.rows == 0 || (a.in && a.out && a.weight));
    }
    case MOIRA_OP_ROPE: {
        const auto& a = as<moira_rope_args>(args);
        const moira_status status = check_rows(op, a.rows);
        return status ? status : check_pointers(op, a.rows == 0 || (a.x && a.positions && a.table));
    }
    case MOIRA_OP_KV_APPEND: {
        const auto& a = as<moira_kv_append_args>(args);
        const moira_status status = check_rows(op, a.rows);
        return status ? status : check_pointers(op, a.rows == 0 || (a.in && a.slots && a.pool));
    }
    case MOIRA_OP_ATTENTION_GQA: {
        const auto& a = as<moira_attention_args>(args);
        return a.rows == 0 ? MOIRA_OK : check_attention(op, a, !op.desc.attention_gqa.sinks || a.sinks);
    }
    case MOIRA_OP_ATTENTION_MLA: {
        const auto& a = as<moira_attention_args>(args);
        return a.rows == 0 ? MOIRA_OK : check_attention(op, a, a.weight);
    }
    case MOIRA_OP_GEMM: {
        const auto& a = as<moira_gemm_args>(args);
        const moira_status status = check_rows(op, a.rows);
        const bool complete = a.x && a.weight && a.out && (!op.desc.gemm.has_bias || a.bias);
        return status ? status : check_pointers(op, a.rows == 0 || complete);
    }
    case MOIRA_OP_ROUTER_TOPK: {
        const auto& a = as<moira_router_topk_args>(args);
        const moira_status status = check_rows(op, a.rows);
        const bool complete = a.logits && a.ids && a.weights && (!op.desc.router_topk.has_bias || a.bias);
        return status ? status : check_pointers(op, a.rows == 0 || complete);
    }
    case MOIRA_OP_EXPERT_FFN:
        return check_expert(op, as<moira_expert_ffn_args>(args));
    case MOIRA_OP_EXPERT_GROUPS:
        return check_groups(op, as<moira_expert_groups_args>(args));
    default: {
        const auto& a = as<moira_combine_args>(args);
        const moira_combine_desc& desc = op.desc.combine;
        const moira_status status = check_rows(op, a.rows);
        const bool complete =
            a.residual && (!desc.top_k || (a.expert_out && a.weights)) && (!desc.has_shared || a.shared);
        return status ? status : check_pointers(op, a.rows == 0 || complete);
    }
    }
}

} // namespace moira
