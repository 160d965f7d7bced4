// Grouped-query attention: heads of one group read the same keys and values and are one task.
#include "kernels/x86/attention_task.hpp"
#include "kernels/x86/simd.hpp"
#include "kernels/x86/x86_kernels.hpp"

#include <cstring>

namespace moira {

namespace {

// The task of the heads from `head` on that share its keys, up to `end`.
attention_task gqa_task(const moira_attention_gqa_desc& desc, const moira_attention_args& args, uint64_t row,
                        uint64_t head, uint64_t end) {
    const uint64_t group = desc.heads / desc.kv_heads;
    const uint64_t group_end = (head / group + 1) * group;
    attention_task task{};
    task.heads = static_cast<uint32_t>(std::min({group_end, end, head + task_heads}) - head);
    task.query = args.q + row * args.q_stride + head * desc.head_dim;
    task.query_stride = desc.head_dim;
    task.out = args.out + row * args.out_stride + head * desc.head_dim;
    task.out_stride = desc.head_dim;
    task.key_width = task.value_width = desc.head_dim;
    task.key_offset = head / group * desc.head_dim;
    task.value_offset = task.key_offset + args.kv.value_offset;
    task.scale = desc.scale;
    task.sinks = desc.sinks ? args.sinks + head : nullptr;
    return task;
}

// Calls function(tasks, count, head) for the heads in tasks of one row, as many as are computed together.
template <class Function>
void for_tasks(const moira_attention_gqa_desc& desc, const moira_attention_args& args, uint64_t row,
               const head_range& heads, const Function& function) {
    for (uint64_t head = heads.begin; head < heads.end;) {
        attention_task tasks[row_tasks];
        const uint64_t first = head;
        uint32_t count = 0;
        for (; count < row_tasks && head < heads.end; ++count) {
            tasks[count] = gqa_task(desc, args, row, head, heads.end);
            head += tasks[count].heads;
        }
        function(tasks, count, first);
    }
}

void clear_heads(const moira_attention_gqa_desc& desc, const moira_attention_args& args, uint64_t row,
                 const head_range& heads) {
    float* out = args.out + row * args.out_stride;
    std::memset(out + heads.begin * desc.head_dim, 0, (heads.end - heads.begin) * desc.head_dim * sizeof(float));
}

void attend_spans(const moira_attention_gqa_desc& desc, const moira_attention_args& args, const work_share& share) {
    const split_spans<moira_attention_gqa_desc> spans{desc, args, share.shared};
    for_spans(spans, share,
              [&](uint64_t index, const moira_attention_row& row, uint32_t begin, uint32_t end, const span_sums& sums) {
                  const attended_row from{args.kv, row, desc.page_tokens, begin};
                  for_tasks(desc, args, index, {0, desc.heads},
                            [&](const attention_task* tasks, uint32_t count, uint64_t head) {
                                attend_span_bf16(tasks, count, from, begin, end, heads_from(sums, head, desc.head_dim),
                                                 share.scratch);
                            });
              });
}

void merge_spans(const moira_attention_gqa_desc& desc, const moira_attention_args& args, const work_share& share) {
    const split_spans<moira_attention_gqa_desc> spans{desc, args, share.shared};
    const page_limits limits = page_limits_of(desc, args);
    uint64_t unit = 0;
    for (uint64_t row = 0; row < args.rows; unit += spans.count(row++)) {
        const head_range heads = heads_of_row(share, args.rows, row);
        if (heads.begin >= heads.end)
            continue;
        const uint32_t count = spans.count(row);
        if (count == 0 ||
            !attention_row_valid(args.row_table[row], args.kv.page_table, limits, spans.first_position(row))) {
            clear_heads(desc, args, row, heads);
            continue;
        }
        for (uint64_t head = heads.begin; head < heads.end; ++head)
            merge_spans_bf16(heads_from(spans.at(unit), head, desc.head_dim), spans.floats(), count, desc.head_dim,
                             desc.sinks ? args.sinks + head : nullptr, share.scratch,
                             args.out + row * args.out_stride + head * desc.head_dim);
    }
}

void attend_rows(const moira_attention_gqa_desc& desc, const moira_attention_args& args, const work_share& share) {
    const page_limits limits = page_limits_of(desc, args);
    for (uint64_t index = 0; index < args.rows; ++index) {
        const moira_attention_row& row = args.row_table[index];
        const attended_row from{args.kv, row, desc.page_tokens, attention_first_position(row, desc.window)};
        const head_range heads = heads_of_row(share, args.rows, index);
        if (heads.begin >= heads.end)
            continue;
        if (!attention_row_valid(row, args.kv.page_table, limits, from.first)) { // reported by find_error
            clear_heads(desc, args, index, heads);
            continue;
        }
        for_tasks(desc, args, index, heads, [&](const attention_task* tasks, uint32_t count, uint64_t) {
            if constexpr (simd_has_bf16_dot)
                if (desc.kv_type == MOIRA_TYPE_BF16)
                    return attend_bf16(tasks, count, from, share.scratch);
            attend_f32(tasks, count, from);
        });
    }
}

} // namespace

void x86_attention_gqa(const moira_attention_gqa_desc& desc, const moira_attention_args& args,
                       const work_share& share) {
    if constexpr (simd_has_bf16_dot) {
        if (share.phase == attention_phase_spans)
            return attend_spans(desc, args, share);
        if (attention_split(desc, args) > 0)
            return merge_spans(desc, args, share);
    }
    attend_rows(desc, args, share);
}

} // namespace moira
