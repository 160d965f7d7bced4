// What both kinds of attention and both types of keys and values have in common. Internal to kernels/x86.
#pragma once

#include "kernels/op_plan.hpp"

#include <algorithm>

namespace moira {

// Positions are visited in blocks that begin at absolute multiples of this.
inline constexpr uint32_t block_positions = 64;

// Heads of one task: queries, outputs and running sums of 16 stay in the first cache beside a block.
inline constexpr uint32_t task_heads = 16;

// Tasks of one row at a time: the KV heads of most models.
inline constexpr uint32_t row_tasks = 16;

// Consecutive heads of one row that read the same keys and values.
struct attention_task {
    uint32_t heads; // 1 to task_heads
    const float* query;
    uint64_t query_stride; // between heads
    float* out;
    uint64_t out_stride; // between heads
    uint32_t key_width;
    uint32_t value_width;
    uint64_t key_offset;   // within a token slot
    uint64_t value_offset; // within a token slot
    float scale;
    const float* sinks; // one more logit per head without a value, or nullptr
};

// A row and the cache it reads.
struct attended_row {
    const moira_kv_view& kv;
    const moira_attention_row& row;
    uint32_t page_tokens;
    uint32_t first; // position
};

// The visible token slots of one block.
template <class Element>
struct slot_block {
    const Element* slots[block_positions];
    uint32_t count;
};

inline uint32_t block_end(uint32_t begin) {
    return (begin / block_positions + 1) * block_positions;
}

// The slots of positions [begin, end), at most one block; none when end is not behind begin. Page by page: a division
// per position would cost as much as its dot product.
template <class Element>
void find_block(const attended_row& from, uint32_t begin, uint32_t end, slot_block<Element>& block) {
    block.count = end > begin ? end - begin : 0;
    if (block.count == 0)
        return;
    const int32_t* page = from.kv.page_table + from.row.page_table_offset + begin / from.page_tokens;
    uint32_t within = begin % from.page_tokens;
    for (uint32_t i = 0; i < block.count; ++page, within = 0) {
        const Element* slot = static_cast<const Element*>(from.kv.pool) +
                              (uint64_t(*page) * from.page_tokens + within) * from.kv.slot_stride;
        for (; within < from.page_tokens && i < block.count; ++within, ++i, slot += from.kv.slot_stride)
            block.slots[i] = slot;
    }
}

// Units are numbered head * rows + row.
struct head_range {
    uint64_t begin;
    uint64_t end;
};

// The heads of a row that belong to the share: those with begin <= head * rows + row < end.
inline head_range heads_of_row(const work_share& share, uint64_t rows, uint64_t row) {
    const auto first_from = [&](uint64_t unit) { return unit > row ? (unit - row + rows - 1) / rows : 0; };
    return {first_from(share.begin), first_from(share.end)};
}

// Keys and values in float32: all tasks of one row, block by block, so that slots come from memory in one stream
// whatever part each task reads.
void attend_f32(const attention_task* tasks, uint32_t task_count, const attended_row& from);

// Keys and values in BF16, on processors with its dot product (attention_bf16.cpp). Tasks follow each other by head:
// task t begins where t - 1 ends. scratch: see op_plan.hpp, for as many heads as there are.
void attend_bf16(const attention_task* tasks, uint32_t task_count, const attended_row& from, float* scratch);

// Sums of some heads: values[head * span_value_floats], maximum[head], sum[head].
struct span_sums {
    float* values;
    float* maximum;
    float* sum;
};

inline span_sums span_sums_at(float* address, uint64_t heads, uint64_t value_width) {
    float* maxima = address + heads * span_value_floats(value_width);
    return {address, maxima, maxima + (heads + 15) / 16 * 16};
}
inline span_sums heads_from(const span_sums& sums, uint64_t head, uint64_t value_width) {
    return {sums.values + head * span_value_floats(value_width), sums.maximum + head, sums.sum + head};
}

// The positions of one span, [begin, end) within [from.first, context_length), alone.
void attend_span_bf16(const attention_task* tasks, uint32_t task_count, const attended_row& from, uint32_t begin,
                      uint32_t end, const span_sums& sums, float* scratch);

// out = `count` (1 or more) spans of one head in order, each `stride` floats behind the last. scratch: of one head.
void merge_spans_bf16(const span_sums& first, uint64_t stride, uint32_t count, uint32_t value_width, const float* sink,
                      float* scratch, float* out);

// How a launch that is split keeps its spans' sums in `shared`: one after another, row by row.
template <class Desc>
struct split_spans {
    const Desc& desc;
    const moira_attention_args& args;
    float* shared;

    uint64_t floats() const { return span_sums_floats(desc.heads, attention_value_width(desc)); }
    uint32_t first_position(uint64_t row) const {
        return attention_first_position(args.row_table[row], attention_window(desc));
    }
    uint32_t count(uint64_t row) const {
        return attention_spans(args.row_table[row], first_position(row), desc.context_max);
    }
    span_sums at(uint64_t unit) const {
        return span_sums_at(shared + unit * floats(), desc.heads, attention_value_width(desc));
    }
};

// Calls attend(index, row, begin, end, sums) for the units of the share whose pages are in range. The row's context
// ends a block behind the span, so that the next one can be asked for ahead.
template <class Desc, class Function>
void for_spans(const split_spans<Desc>& spans, const work_share& share, const Function& attend) {
    const page_limits limits = page_limits_of(spans.desc, spans.args);
    uint64_t unit = 0; // first of the row
    for (uint64_t row = 0; row < spans.args.rows && unit < share.end; unit += spans.count(row++)) {
        const uint32_t first = spans.first_position(row);
        for (uint32_t i = 0; i < spans.count(row); ++i) {
            if (unit + i < share.begin || unit + i >= share.end)
                continue;
            const uint32_t span = first / span_positions + i;
            moira_attention_row part = spans.args.row_table[row];
            const uint32_t begin = std::max(first, span * span_positions);
            const auto length = static_cast<uint32_t>(part.context_length);
            const uint32_t end = std::min(length, (span + 1) * span_positions);
            part.context_length = static_cast<int32_t>(std::min(length, end + block_positions));
            if (attention_row_valid(part, spans.args.kv.page_table, limits, begin))
                attend(row, part, begin, end, spans.at(unit + i));
        }
    }
}

} // namespace moira
