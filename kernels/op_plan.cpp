#include "kernels/op_plan.hpp"

#include "kernels/packed_layout.hpp"

namespace moira {

namespace {

template <class T>
const T& as(const void* address) {
    return *static_cast<const T*>(address);
}

template <class T>
const T& desc_as(const moira_op_header& header) {
    return *reinterpret_cast<const T*>(&header);
}

uint64_t tiles_of(uint64_t columns) {
    return round_up(columns, tile_columns) / tile_columns;
}

// An exponential costs about as much as this many multiply-adds of a vector unit.
constexpr uint64_t work_per_exponential = 64;

uint64_t projected_work(const moira_attention_gqa_desc&, bool) {
    return 0;
}
// Of one head and row, for the query or for the value.
uint64_t projected_work(const moira_attention_mla_desc& desc, bool query) {
    return uint64_t{desc.kv_rank} * (query ? desc.key_dim : desc.value_dim);
}

template <class Desc>
phase_plan plan_attention(const Desc& desc, const moira_attention_args& args, uint32_t phase) {
    const uint64_t heads = desc.heads;
    const uint64_t widths = attention_key_width(desc) + attention_value_width(desc);
    uint64_t positions = 0;
    for (uint32_t row = 0; row < args.rows; ++row)
        positions += args.row_table[row].context_length > 0 ? uint64_t(args.row_table[row].context_length) : 0;
    const uint64_t queries = heads * args.rows * projected_work(desc, true);
    const uint64_t values = heads * args.rows * projected_work(desc, false);
    const uint64_t spans = attention_split(desc, args);
    if (spans == 0)
        return phase == attention_phase_finish
                   ? phase_plan{heads * args.rows, queries + values + heads * positions * widths}
                   : phase_plan{};
    switch (phase) {
    case attention_phase_queries:
        return {queries > 0 ? heads * args.rows : 0, queries};
    case attention_phase_spans:
        return {spans, heads * positions * widths};
    default:
        return {heads * args.rows, values + heads * spans * attention_value_width(desc)};
    }
}

phase_plan plan_expert(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args, uint32_t phase) {
    uint64_t pairs = 0;
    for (uint32_t group = 0; group < expert_group_count(args); ++group)
        pairs += args.group_table[group].pair_count;
    const uint64_t matrix = uint64_t{desc.hidden} * desc.inner;
    if (phase == 0)
        return {pairs * tiles_of(desc.inner), pairs * matrix * 2};
    return {pairs * tiles_of(desc.hidden), pairs * matrix};
}

// In floats beside the spans' own: queries of a launch that is split, and scratch of a member.
template <class Desc>
workspace_plan plan_spans(const Desc& desc, uint64_t queries, uint64_t scratch) {
    const uint64_t slots = attention_span_slots(desc);
    const uint64_t sums = slots * span_sums_floats(desc.heads, attention_value_width(desc));
    return {slots > 0 ? (sums + queries) * sizeof(float) : 0,
            round_up((scratch + span_scratch_floats(desc)) * sizeof(float), 64)};
}

moira_error_word error_at(uint32_t code, uint32_t op, int32_t row, int32_t detail) {
    return {code, op, row, detail};
}

template <class Desc>
moira_error_word find_page_error(const Desc& desc, const moira_attention_args& args, uint32_t window) {
    const page_limits limits = page_limits_of(desc, args);
    for (uint32_t row = 0; row < args.rows; ++row) {
        const moira_attention_row& entry = args.row_table[row];
        if (!attention_row_valid(entry, args.kv.page_table, limits, attention_first_position(entry, window)))
            return error_at(MOIRA_ERROR_PAGE_OUT_OF_RANGE, desc.header.op, int32_t(row), entry.context_length);
    }
    return {};
}

moira_error_word find_id_error(uint32_t op, uint32_t code, const int32_t* ids, uint32_t rows, uint32_t limit) {
    for (uint32_t row = 0; row < rows; ++row)
        if (ids[row] < 0 || uint32_t(ids[row]) >= limit)
            return error_at(code, op, int32_t(row), ids[row]);
    return {};
}

moira_error_word find_expert_error(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args,
                                   uint32_t layout_id) {
    for (uint32_t index = 0; index < expert_group_count(args); ++index) {
        const moira_expert_group& group = args.group_table[index];
        if (group.pair_count == 0)
            continue;
        if (const uint32_t code = expert_group_error(desc, args, group, layout_id))
            return error_at(code, MOIRA_OP_EXPERT_FFN, int32_t(index), int32_t(group.expert));
    }
    return {};
}

moira_error_word find_unknown_expert(const moira_expert_groups_desc& desc, const moira_expert_groups_args& args) {
    for (uint64_t pair = 0; pair < uint64_t{args.rows} * desc.top_k; ++pair)
        if (args.ids[pair] >= 0 && uint32_t(args.ids[pair]) >= desc.experts)
            return error_at(MOIRA_ERROR_EXPERT_EMPTY, MOIRA_OP_EXPERT_GROUPS, int32_t(pair / desc.top_k),
                            args.ids[pair]);
    return {};
}

} // namespace

uint32_t phase_count(uint32_t op) {
    switch (op) {
    case MOIRA_OP_EXPERT_FFN:
        return 2;
    case MOIRA_OP_ATTENTION_GQA:
    case MOIRA_OP_ATTENTION_MLA:
        return attention_phase_finish + 1;
    default:
        return 1;
    }
}

phase_plan plan_phase(const moira_op_header& desc, const void* args, uint32_t phase) {
    switch (desc.op) {
    case MOIRA_OP_EMBEDDING: {
        const uint64_t rows = as<moira_embedding_args>(args).rows;
        return {rows, rows * desc_as<moira_embedding_desc>(desc).width};
    }
    case MOIRA_OP_RMSNORM: {
        const auto& a = as<moira_rmsnorm_args>(args);
        return {a.rows, uint64_t{a.rows} * a.groups * desc_as<moira_rmsnorm_desc>(desc).width * 2};
    }
    case MOIRA_OP_ROPE: {
        const auto& d = desc_as<moira_rope_desc>(desc);
        const uint64_t rows = as<moira_rope_args>(args).rows;
        return {rows, rows * d.heads * d.width * 2};
    }
    case MOIRA_OP_KV_APPEND: {
        const uint64_t rows = as<moira_kv_append_args>(args).rows;
        return {rows, rows * desc_as<moira_kv_append_desc>(desc).width};
    }
    case MOIRA_OP_ATTENTION_GQA:
        return plan_attention(desc_as<moira_attention_gqa_desc>(desc), as<moira_attention_args>(args), phase);
    case MOIRA_OP_ATTENTION_MLA:
        return plan_attention(desc_as<moira_attention_mla_desc>(desc), as<moira_attention_args>(args), phase);
    case MOIRA_OP_GEMM: {
        const auto& d = desc_as<moira_gemm_desc>(desc);
        const uint64_t rows = as<moira_gemm_args>(args).rows;
        return {rows * tiles_of(d.n), rows * d.n * d.k};
    }
    case MOIRA_OP_ROUTER_TOPK: {
        const auto& d = desc_as<moira_router_topk_desc>(desc);
        const uint64_t rows = as<moira_router_topk_args>(args).rows;
        return {rows, rows * d.experts * (work_per_exponential + d.top_k)};
    }
    case MOIRA_OP_EXPERT_FFN:
        return plan_expert(desc_as<moira_expert_ffn_desc>(desc), as<moira_expert_ffn_args>(args), phase);
    case MOIRA_OP_COMBINE: {
        const auto& d = desc_as<moira_combine_desc>(desc);
        const uint64_t rows = as<moira_combine_args>(args).rows;
        return {rows, rows * d.width * (uint64_t{d.top_k} + 2)};
    }
    case MOIRA_OP_EXPERT_GROUPS: {
        const auto& d = desc_as<moira_expert_groups_desc>(desc);
        const uint64_t rows = as<moira_expert_groups_args>(args).rows;
        return {rows > 0 ? 1u : 0u, rows * d.top_k + d.experts};
    }
    default:
        return {};
    }
}

workspace_plan plan_workspace(const moira_op_header& desc) {
    if (desc.op == MOIRA_OP_EXPERT_GROUPS)
        return {round_up(uint64_t{desc_as<moira_expert_groups_desc>(desc).experts} * sizeof(uint32_t), 64), 0};
    if (desc.op == MOIRA_OP_EXPERT_FFN) {
        const auto& d = desc_as<moira_expert_ffn_desc>(desc);
        return {round_up(uint64_t{desc.rows_max} * expert_inner_stride(d) * sizeof(float), 64), 0};
    }
    if (desc.op == MOIRA_OP_ATTENTION_GQA) {
        const auto& d = desc_as<moira_attention_gqa_desc>(desc);
        return d.kv_type == MOIRA_TYPE_BF16 ? plan_spans(d, 0, 0) : workspace_plan{};
    }
    if (desc.op == MOIRA_OP_ATTENTION_MLA) {
        const auto& d = desc_as<moira_attention_mla_desc>(desc);
        const uint64_t scratch = mla_scratch_floats(d);
        return d.kv_type == MOIRA_TYPE_BF16 ? plan_spans(d, mla_split_rows(d) * d.heads * mla_query_floats(d), scratch)
                                            : workspace_plan{0, scratch * sizeof(float)};
    }
    return {};
}

moira_error_word find_error(const moira_op_header& desc, const void* args, uint32_t expert_layout_id) {
    switch (desc.op) {
    case MOIRA_OP_EMBEDDING: {
        const auto& a = as<moira_embedding_args>(args);
        return find_id_error(desc.op, MOIRA_ERROR_TOKEN_OUT_OF_RANGE, a.token_ids, a.rows,
                             desc_as<moira_embedding_desc>(desc).vocabulary);
    }
    case MOIRA_OP_ROPE: {
        const auto& a = as<moira_rope_args>(args);
        return find_id_error(desc.op, MOIRA_ERROR_TOKEN_OUT_OF_RANGE, a.positions, a.rows,
                             desc_as<moira_rope_desc>(desc).positions);
    }
    case MOIRA_OP_KV_APPEND: {
        const auto& a = as<moira_kv_append_args>(args);
        return find_id_error(desc.op, MOIRA_ERROR_PAGE_OUT_OF_RANGE, a.slots, a.rows,
                             desc_as<moira_kv_append_desc>(desc).slots);
    }
    case MOIRA_OP_ATTENTION_GQA: {
        const auto& d = desc_as<moira_attention_gqa_desc>(desc);
        return find_page_error(d, as<moira_attention_args>(args), d.window);
    }
    case MOIRA_OP_ATTENTION_MLA:
        return find_page_error(desc_as<moira_attention_mla_desc>(desc), as<moira_attention_args>(args), 0);
    case MOIRA_OP_EXPERT_FFN:
        return find_expert_error(desc_as<moira_expert_ffn_desc>(desc), as<moira_expert_ffn_args>(args),
                                 expert_layout_id);
    case MOIRA_OP_EXPERT_GROUPS:
        return find_unknown_expert(desc_as<moira_expert_groups_desc>(desc), as<moira_expert_groups_args>(args));
    default:
        return {};
    }
}

} // namespace moira
