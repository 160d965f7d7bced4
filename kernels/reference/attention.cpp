#include "kernels/op_plan.hpp"
#include "kernels/packed_layout.hpp"
#include "kernels/reference/reference_kernels.hpp"
#include "kernels/reference/weight_view.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace moira {

namespace {

// One query against the cached vectors of one row: softmax(scale * q k^T) v, positions in rising order. Scores are
// computed twice, once for the maximum and once for the sum, so that nothing has to be stored.
struct attention_task {
    const float* query;
    uint32_t key_width;
    uint32_t value_width;
    uint64_t key_offset;   // within a token slot
    uint64_t value_offset; // within a token slot
    float scale;
    const float* sink; // one more logit without a value, or nullptr
};

// Index of the first element of a position's slot.
uint64_t slot_at(const moira_kv_view& kv, const moira_attention_row& row, uint32_t page_tokens, uint32_t position) {
    const int32_t page = kv.page_table[uint64_t(row.page_table_offset) + position / page_tokens];
    return (uint64_t(page) * page_tokens + position % page_tokens) * kv.slot_stride;
}

template <class Loader>
float score_at(const attention_task& task, const void* pool, uint64_t slot) {
    float sum = 0.0f;
    for (uint32_t d = 0; d < task.key_width; ++d)
        sum += task.query[d] * Loader::load(pool, slot + task.key_offset + d);
    return sum * task.scale;
}

template <class Loader>
void attend_to(const attention_task& task, const moira_kv_view& kv, const moira_attention_row& row,
               uint32_t page_tokens, uint32_t first, float* out) {
    std::memset(out, 0, task.value_width * sizeof(float));
    const auto end = uint32_t(row.context_length);
    if (first >= end)
        return;
    float maximum = task.sink ? *task.sink : -std::numeric_limits<float>::infinity();
    for (uint32_t position = first; position < end; ++position)
        maximum = std::max(maximum, score_at<Loader>(task, kv.pool, slot_at(kv, row, page_tokens, position)));
    float sum = task.sink ? std::exp(*task.sink - maximum) : 0.0f;
    for (uint32_t position = first; position < end; ++position) {
        const uint64_t slot = slot_at(kv, row, page_tokens, position);
        const float weight = std::exp(score_at<Loader>(task, kv.pool, slot) - maximum);
        sum += weight;
        for (uint32_t d = 0; d < task.value_width; ++d)
            out[d] += weight * Loader::load(kv.pool, slot + task.value_offset + d);
    }
    for (uint32_t d = 0; d < task.value_width; ++d)
        out[d] /= sum;
}

void attend(uint32_t kv_type, const attention_task& task, const moira_kv_view& kv, const moira_attention_row& row,
            uint32_t page_tokens, uint32_t first, float* out) {
    if (kv_type == MOIRA_TYPE_BF16)
        attend_to<load_bf16>(task, kv, row, page_tokens, first, out);
    else
        attend_to<load_f32>(task, kv, row, page_tokens, first, out);
}

} // namespace

void reference_attention_gqa(const moira_attention_gqa_desc& desc, const moira_attention_args& args,
                             const work_share& share) {
    if (share.phase != attention_phase_finish) // nothing is prepared, split or stored
        return;
    const page_limits limits = page_limits_of(desc, args);
    for (uint64_t unit = share.begin; unit < share.end; ++unit) {
        const uint64_t head = unit / args.rows;
        const uint64_t index = unit % args.rows;
        const moira_attention_row& row = args.row_table[index];
        float* out = args.out + index * args.out_stride + head * desc.head_dim;
        const uint32_t first = attention_first_position(row, desc.window);
        if (!attention_row_valid(row, args.kv.page_table, limits, first)) { // reported by find_error
            std::memset(out, 0, desc.head_dim * sizeof(float));
            continue;
        }
        const uint64_t key_offset = head / (desc.heads / desc.kv_heads) * desc.head_dim;
        const attention_task task{args.q + index * args.q_stride + head * desc.head_dim,
                                  desc.head_dim,
                                  desc.head_dim,
                                  key_offset,
                                  key_offset + args.kv.value_offset,
                                  desc.scale,
                                  desc.sinks ? args.sinks + head : nullptr};
        attend(desc.kv_type, task, args.kv, row, desc.page_tokens, first, out);
    }
}

void reference_attention_mla(const moira_attention_mla_desc& desc, const moira_attention_args& args,
                             const work_share& share) {
    if (share.phase != attention_phase_finish) // nothing is prepared, split or stored
        return;
    const page_limits limits = page_limits_of(desc, args);
    const mla_layout layout =
        mla_layout_of(reference_packing(), desc.quantization, desc.kv_rank, desc.key_dim, desc.value_dim);
    float* query = share.scratch;
    float* latent = query + mla_query_floats(desc);
    for (uint64_t unit = share.begin; unit < share.end; ++unit) {
        const uint64_t head = unit / args.rows;
        const uint64_t index = unit % args.rows;
        const moira_attention_row& row = args.row_table[index];
        float* out = args.out + index * args.out_stride + head * desc.value_dim;
        if (!attention_row_valid(row, args.kv.page_table, limits, 0)) { // reported by find_error
            std::memset(out, 0, desc.value_dim * sizeof(float));
            continue;
        }
        const char* packed = static_cast<const char*>(args.weight) + head * layout.head_bytes;
        const weight_view key = view_of(desc.quantization, desc.kv_rank, desc.key_dim, packed);
        const weight_view value = view_of(desc.quantization, desc.value_dim, desc.kv_rank, packed + layout.value);
        const float* q = args.q + index * args.q_stride + head * (uint64_t{desc.key_dim} + desc.rope_dim);
        for (uint32_t r = 0; r < desc.kv_rank; ++r)
            query[r] = weight_dot(key, r, q);
        std::memcpy(query + desc.kv_rank, q + desc.key_dim, desc.rope_dim * sizeof(float));
        const attention_task task{query, desc.kv_rank + desc.rope_dim, desc.kv_rank, 0, 0, desc.scale, nullptr};
        attend(desc.kv_type, task, args.kv, row, desc.page_tokens, 0, latent);
        for (uint32_t v = 0; v < desc.value_dim; ++v)
            out[v] = weight_dot(value, v, latent);
    }
}

} // namespace moira
