// Multi-head latent attention in absorbed form: all heads read the same latents.
#include "kernels/x86/attention_task.hpp"
#include "kernels/x86/tile_product.hpp"
#include "kernels/x86/x86_kernels.hpp"

#include <cstring>

namespace moira {

namespace {

// out[r][n] = matrix [n, k] * x[r][k] for a few rows.
void project(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* packed, uint32_t rows,
             const float* const* x, float* const* out) {
    // Weights are widened, activations exact: two more roundings per score would be felt in every layer.
    const tile_matrix matrix = tile_matrix_at(quantization, MOIRA_COMPUTE_F32, n, k, packed);
    tile_sums sums;
    for (uint64_t tile = 0; tile < tile_count(n); ++tile) {
        const tile_weights weights = matrix.at(tile, 1);
        multiply_tiles(matrix.shape, &weights, 1, x, rows, &sums);
        const uint64_t columns = std::min<uint64_t>(tile_columns, n - tile * tile_columns);
        for (uint32_t r = 0; r < rows; ++r)
            std::memcpy(out[r] + tile * tile_columns, sums.at[r], columns * sizeof(float));
    }
}

// Some heads of a few rows. Rows share the projections' weights; each then attends on its own.
struct mla_work {
    const moira_attention_mla_desc& desc;
    const moira_attention_args& args;
    mla_layout layout;
    head_range heads;
    uint64_t row;
    uint32_t rows;
    float* scratch;

    uint64_t head_count() const { return heads.end - heads.begin; }
    const char* weights(uint64_t head) const {
        return static_cast<const char*>(args.weight) + (heads.begin + head) * layout.head_bytes;
    }
    float* query(uint64_t r, uint64_t head) const {
        return scratch + (r * head_count() + head) * mla_query_floats(desc);
    }
    float* latent(uint64_t r, uint64_t head) const {
        return scratch + mla_slots(desc) * mla_query_floats(desc) + (r * head_count() + head) * mla_latent_floats(desc);
    }
    float* attention_scratch() const { return scratch + mla_scratch_floats(desc); }
    float* out(uint64_t r, uint64_t head) const {
        return args.out + (row + r) * args.out_stride + (heads.begin + head) * desc.value_dim;
    }
};

// query(r, head): where a head's query in latent space goes, followed by its rotary part.
template <class Query>
void project_queries(const mla_work& work, const Query& query) {
    const moira_attention_mla_desc& desc = work.desc;
    for (uint64_t head = 0; head < work.head_count(); ++head) {
        const float* from[mla_task_rows] = {};
        float* to[mla_task_rows] = {};
        for (uint64_t r = 0; r < work.rows; ++r) {
            from[r] = work.args.q + (work.row + r) * work.args.q_stride +
                      (work.heads.begin + head) * (uint64_t{desc.key_dim} + desc.rope_dim);
            to[r] = query(r, head);
            std::memcpy(to[r] + desc.kv_rank, from[r] + desc.key_dim, desc.rope_dim * sizeof(float));
        }
        project(desc.quantization, desc.kv_rank, desc.key_dim, work.weights(head), work.rows, from, to);
    }
}

void project_values(const mla_work& work) {
    const moira_attention_mla_desc& desc = work.desc;
    for (uint64_t head = 0; head < work.head_count(); ++head) {
        const float* from[mla_task_rows] = {};
        float* to[mla_task_rows] = {};
        for (uint64_t r = 0; r < work.rows; ++r) {
            from[r] = work.latent(r, head);
            to[r] = work.out(r, head);
        }
        project(desc.quantization, desc.value_dim, desc.kv_rank, work.weights(head) + work.layout.value, work.rows,
                from, to);
    }
}

attention_task mla_task(const moira_attention_mla_desc& desc, uint64_t heads, const float* query, float* out) {
    attention_task task{};
    task.heads = static_cast<uint32_t>(heads);
    task.query = query;
    task.query_stride = mla_query_floats(desc);
    task.out = out;
    task.out_stride = mla_latent_floats(desc);
    task.key_width = desc.kv_rank + desc.rope_dim;
    task.value_width = desc.kv_rank;
    task.scale = desc.scale;
    return task;
}

void attend_rows(const mla_work& work) {
    const moira_attention_mla_desc& desc = work.desc;
    project_queries(work, [&](uint64_t r, uint64_t head) { return work.query(r, head); });
    for (uint64_t r = 0; r < work.rows; ++r) {
        const attended_row from{work.args.kv, work.args.row_table[work.row + r], desc.page_tokens, 0};
        const attention_task task = mla_task(desc, work.head_count(), work.query(r, 0), work.latent(r, 0));
        if constexpr (simd_has_bf16_dot)
            if (desc.kv_type == MOIRA_TYPE_BF16) {
                attend_bf16(&task, 1, from, work.attention_scratch());
                continue;
            }
        attend_f32(&task, 1, from);
    }
    project_values(work);
}

// ---- a launch that is split ---------------------------------------------------------------------------------------

using mla_spans = split_spans<moira_attention_mla_desc>;

// Queries in latent space of all rows and heads lie behind the spans' sums.
float* split_query(const mla_spans& spans, uint64_t row, uint64_t head) {
    return spans.shared + attention_span_slots(spans.desc) * spans.floats() +
           (row * spans.desc.heads + head) * mla_query_floats(spans.desc);
}

void attend_spans(const moira_attention_mla_desc& desc, const moira_attention_args& args, const work_share& share) {
    const mla_spans spans{desc, args, share.shared};
    float* scratch = share.scratch + mla_scratch_floats(desc);
    for_spans(spans, share,
              [&](uint64_t index, const moira_attention_row& row, uint32_t begin, uint32_t end, const span_sums& sums) {
                  const attended_row from{args.kv, row, desc.page_tokens, begin};
                  attention_task tasks[row_tasks];
                  for (uint32_t head = 0; head < desc.heads;) {
                      const uint32_t first = head;
                      uint32_t count = 0;
                      for (; count < row_tasks && head < desc.heads; head += tasks[count++].heads)
                          tasks[count] = mla_task(desc, std::min(desc.heads - head, task_heads),
                                                  split_query(spans, index, head), nullptr);
                      attend_span_bf16(tasks, count, from, begin, end, heads_from(sums, first, desc.kv_rank), scratch);
                  }
              });
}

void merge_spans(const mla_work& work, const mla_spans& spans) {
    uint64_t unit = 0;
    for (uint64_t row = 0; row < work.row; ++row)
        unit += spans.count(row);
    for (uint64_t r = 0; r < work.rows; unit += spans.count(work.row + r++))
        for (uint64_t head = 0; head < work.head_count(); ++head)
            if (const uint32_t count = spans.count(work.row + r))
                merge_spans_bf16(heads_from(spans.at(unit), work.heads.begin + head, work.desc.kv_rank), spans.floats(),
                                 count, work.desc.kv_rank, nullptr, work.attention_scratch(), work.latent(r, head));
            else
                std::memset(work.latent(r, head), 0, work.desc.kv_rank * sizeof(float));
    project_values(work);
}

// Calls function(work) for a few heads of all rows after the other, so that the heads' weights stay in the cache; what
// belongs to rows that are out of range is cleared.
template <class Function>
void for_heads(const moira_attention_mla_desc& desc, const moira_attention_args& args, const work_share& share,
               const Function& function) {
    const page_limits limits = page_limits_of(desc, args);
    const uint64_t step = mla_task_heads(desc);
    mla_work work{desc,
                  args,
                  mla_layout_of(tile_packing(), desc.quantization, desc.kv_rank, desc.key_dim, desc.value_dim),
                  {},
                  0,
                  0,
                  share.scratch};
    const auto heads_at = [&](uint64_t row, uint64_t begin) {
        const head_range owned = heads_of_row(share, args.rows, row);
        return head_range{std::max(begin, owned.begin), std::min(begin + step, owned.end)};
    };
    const auto valid = [&](uint64_t row) {
        return attention_row_valid(args.row_table[row], args.kv.page_table, limits, 0);
    };
    for (uint64_t begin = share.begin / args.rows; begin * args.rows < share.end; begin += step) {
        for (work.row = 0; work.row < args.rows; work.row += work.rows) {
            work.heads = heads_at(work.row, begin);
            work.rows = 1;
            if (work.heads.begin >= work.heads.end)
                continue;
            if (!valid(work.row)) { // reported by find_error
                std::memset(work.out(0, 0), 0, work.head_count() * desc.value_dim * sizeof(float));
                continue;
            }
            for (; work.rows < mla_task_rows && work.row + work.rows < args.rows; ++work.rows) {
                const head_range next = heads_at(work.row + work.rows, begin);
                if (next.begin != work.heads.begin || next.end != work.heads.end || !valid(work.row + work.rows))
                    break;
            }
            function(work);
        }
    }
}

} // namespace

void x86_attention_mla(const moira_attention_mla_desc& desc, const moira_attention_args& args,
                       const work_share& share) {
    if constexpr (simd_has_bf16_dot) {
        const mla_spans spans{desc, args, share.shared};
        if (share.phase == attention_phase_queries)
            return for_heads(desc, args, share, [&](const mla_work& work) {
                project_queries(work, [&](uint64_t r, uint64_t head) {
                    return split_query(spans, work.row + r, work.heads.begin + head);
                });
            });
        if (share.phase == attention_phase_spans)
            return attend_spans(desc, args, share);
        if (attention_split(desc, args) > 0)
            return for_heads(desc, args, share, [&](const mla_work& work) { merge_spans(work, spans); });
    }
    for_heads(desc, args, share, attend_rows);
}

} // namespace moira
