// How each op is split into phases and units of work, the same for every CPU plugin. A unit is the least that a member
// can do alone; which member does it never changes a bit of the result.
//   embedding, rmsnorm, rope, kv_append, router_topk, combine: one unit per row.
//   expert_groups: one unit, which counts in `shared`.
//   attention: three phases. The last one has one unit per (head, row), numbered head * rows + row, so that a head's
//     weights stay in cache. Few rows with long contexts are split before (attention_split): into one unit per (head,
//     row) that prepares queries in `shared` (MLA only), then into one per (row, span of positions), numbered row by
//     row, that leaves its sums there; the last phase merges them in order. Otherwise the last phase does it all, span
//     by span: the bits are the same.
//   gemm: one unit per (tile of 64 output columns, row), numbered tile * rows + row.
//   expert_ffn: two phases (gate and up into `shared`, then down); within a phase group by group, each numbered
//     tile * pairs of the group + pair.
#pragma once

#include "kernels/cpu_kernels.hpp"

namespace moira {

struct phase_plan {
    uint64_t units;
    uint64_t work; // multiply-adds, or what takes about as long
};

struct workspace_plan {
    uint64_t shared_bytes;  // per launch; a multiple of 64
    uint64_t scratch_bytes; // per member; a multiple of 64
};

uint32_t phase_count(uint32_t op);
phase_plan plan_phase(const moira_op_header& desc, const void* args, uint32_t phase);
workspace_plan plan_workspace(const moira_op_header& desc);

// Looks for what the kernels skip: ids, pages, slots and experts that are out of range or not there. Returns the first
// one in row or group order; code 0 when all is well.
moira_error_word find_error(const moira_op_header& desc, const void* args, uint32_t expert_layout_id);

// ---- the same questions for one row or group, asked by the kernels ------------------------------------------------

// Groups that a launch of expert_ffn has.
inline uint32_t expert_group_count(const moira_expert_ffn_args& args) {
    return args.group_count && *args.group_count < args.groups ? *args.group_count : args.groups;
}

// Whether the op reads counts or ids that an op before it in the same list may write: what it will do can be planned
// and checked only when that one has run.
inline bool follows_device_counts(const moira_op_header& desc, const void* args) {
    return desc.op == MOIRA_OP_EXPERT_GROUPS ||
           (desc.op == MOIRA_OP_EXPERT_FFN && static_cast<const moira_expert_ffn_args*>(args)->group_count);
}

// MOIRA_ERROR_NONE, _EMPTY or _STALE. An entry of another layout counts as stale; layout_id 0 says nothing.
inline uint32_t expert_group_error(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args,
                                   const moira_expert_group& group, uint32_t layout_id) {
    if (group.expert >= desc.experts || args.table[group.expert].address == 0)
        return MOIRA_ERROR_EXPERT_EMPTY;
    const moira_expert_entry& entry = args.table[group.expert];
    const bool other_layout = entry.layout_id != 0 && entry.layout_id != layout_id;
    return entry.generation != group.generation || other_layout ? MOIRA_ERROR_EXPERT_STALE : MOIRA_ERROR_NONE;
}

// The bounds that attention needs to judge a row's pages.
struct page_limits {
    uint32_t page_tokens;
    uint32_t pages;
    uint32_t context_max;
    uint32_t page_table_entries;
};

// Whether the row's context and all of its pages from position `first` on are in range.
inline bool attention_row_valid(const moira_attention_row& row, const int32_t* page_table, const page_limits& limits,
                                uint32_t first) {
    if (row.context_length < 0 || row.page_table_offset < 0 || uint32_t(row.context_length) > limits.context_max)
        return false;
    const uint64_t page_end = (uint64_t(row.context_length) + limits.page_tokens - 1) / limits.page_tokens;
    if (uint64_t(row.page_table_offset) + page_end > limits.page_table_entries)
        return false;
    for (uint64_t page = first / limits.page_tokens; page < page_end; ++page) {
        const int32_t index = page_table[uint64_t(row.page_table_offset) + page];
        if (index < 0 || uint32_t(index) >= limits.pages)
            return false;
    }
    return true;
}

// First position that the row sees: 0, or where the sliding window begins. The window counts the row's own token.
inline uint32_t attention_first_position(const moira_attention_row& row, uint32_t window) {
    if (window == 0 || row.position < 0 || uint32_t(row.position) < window)
        return 0;
    return uint32_t(row.position) - window + 1;
}

inline page_limits page_limits_of(const moira_attention_gqa_desc& desc, const moira_attention_args& args) {
    return {desc.page_tokens, desc.pages, desc.context_max, args.page_table_entries};
}
inline page_limits page_limits_of(const moira_attention_mla_desc& desc, const moira_attention_args& args) {
    return {desc.page_tokens, desc.pages, desc.context_max, args.page_table_entries};
}

// ---- attention in spans of positions ------------------------------------------------------------------------------

enum : uint32_t { attention_phase_queries = 0, attention_phase_spans = 1, attention_phase_finish = 2 };

// Spans begin at multiples of this. Storing a head's sums and merging them again costs about as much as one or two
// positions: below 0.3 %. A context of 8,192 gives eight threads a span each.
inline constexpr uint32_t span_positions = 1024;
// Shorter contexts are not split: the spans would not share out evenly.
inline constexpr uint32_t split_spans_min = 8;
// More rows occupy the team by themselves.
inline constexpr uint32_t split_rows_max = 32;

// Spans that a row's positions [first, context_length) touch; none when its context is out of range.
inline uint32_t attention_spans(const moira_attention_row& row, uint32_t first, uint32_t context_max) {
    if (row.context_length <= 0 || uint32_t(row.context_length) > context_max || first >= uint32_t(row.context_length))
        return 0;
    return (uint32_t(row.context_length) - 1) / span_positions - first / span_positions + 1;
}

inline uint32_t attention_window(const moira_attention_gqa_desc& desc) {
    return desc.window;
}
inline uint32_t attention_window(const moira_attention_mla_desc&) {
    return 0;
}
inline uint64_t attention_value_width(const moira_attention_gqa_desc& desc) {
    return desc.head_dim;
}
inline uint64_t attention_value_width(const moira_attention_mla_desc& desc) {
    return desc.kv_rank;
}
inline uint64_t attention_key_width(const moira_attention_gqa_desc& desc) {
    return desc.head_dim;
}
inline uint64_t attention_key_width(const moira_attention_mla_desc& desc) {
    return uint64_t{desc.kv_rank} + desc.rope_dim;
}

// Spans that `shared` has room for: two rows of the longest context, as a verified draft has.
template <class Desc>
uint64_t attention_span_slots(const Desc& desc) {
    const uint64_t longest = (uint64_t{desc.context_max} + span_positions - 1) / span_positions;
    return desc.kv_type == MOIRA_TYPE_BF16 && longest >= split_spans_min ? 2 * longest : 0;
}

// Units of attention_phase_spans, or 0: this launch is not split.
template <class Desc>
uint64_t attention_split(const Desc& desc, const moira_attention_args& args) {
    const uint64_t slots = attention_span_slots(desc);
    if (slots == 0 || args.rows > split_rows_max)
        return 0;
    uint64_t total = 0;
    bool is_long = false;
    for (uint32_t row = 0; row < args.rows; ++row) {
        const moira_attention_row& entry = args.row_table[row];
        const uint32_t spans =
            attention_spans(entry, attention_first_position(entry, attention_window(desc)), desc.context_max);
        is_long = is_long || spans >= split_spans_min;
        total += spans;
    }
    return is_long && total <= slots ? total : 0;
}

// What is known of some heads over some positions, in `shared` and in scratch: for each head sums of weighted values in
// an order of the kernel's own, then all maxima, then all sums of weights. In floats.
inline uint64_t span_value_floats(uint64_t value_width) {
    return (value_width + 31) / 32 * 32;
}
inline uint64_t span_sums_floats(uint64_t heads, uint64_t value_width) {
    return heads * span_value_floats(value_width) + 2 * ((heads + 15) / 16 * 16);
}
// A member's: queries as BF16 pairs, the running sums, and those of one span.
template <class Desc>
uint64_t span_scratch_floats(const Desc& desc) {
    return desc.heads * ((attention_key_width(desc) + 31) / 32 * 16) +
           2 * span_sums_floats(desc.heads, attention_value_width(desc));
}

// The router's arguments carry no workspace: scores and choices of one row lie on the stack, up to this many experts
// (16 KiB; the largest known model has 512).
inline constexpr uint32_t router_experts_max = 1024;

// MLA scratch of one member: for each head of a few rows that are computed together the query in latent space followed
// by its rotary part, then for each the weighted latent. In floats, each a whole number of cache lines.
inline uint64_t mla_query_floats(const moira_attention_mla_desc& desc) {
    return (uint64_t{desc.kv_rank} + desc.rope_dim + 15) / 16 * 16;
}
inline uint64_t mla_latent_floats(const moira_attention_mla_desc& desc) {
    return (uint64_t{desc.kv_rank} + 15) / 16 * 16;
}
// Heads of a row that read the latents together, and rows that share the heads' projections: six fill a register block.
inline uint32_t mla_task_heads(const moira_attention_mla_desc& desc) {
    constexpr uint32_t heads_max = 16;
    return desc.heads < heads_max ? desc.heads : heads_max;
}
inline constexpr uint32_t mla_task_rows = 6;
inline uint64_t mla_slots(const moira_attention_mla_desc& desc) { // 408 KiB for DeepSeek-V3
    return uint64_t{mla_task_heads(desc)} * mla_task_rows;
}
inline uint64_t mla_scratch_floats(const moira_attention_mla_desc& desc) {
    return mla_slots(desc) * (mla_query_floats(desc) + mla_latent_floats(desc));
}
// Rows whose queries in latent space `shared` holds when the launch is split; they lie behind the spans' sums.
inline uint64_t mla_split_rows(const moira_attention_mla_desc& desc) {
    return desc.header.rows_max < split_rows_max ? desc.header.rows_max : split_rows_max;
}

// Elements between the rows of the inner activations that the two phases of expert_ffn share.
inline uint64_t expert_inner_stride(const moira_expert_ffn_desc& desc) {
    return (uint64_t{desc.inner} + 15) / 16 * 16;
}

} // namespace moira
