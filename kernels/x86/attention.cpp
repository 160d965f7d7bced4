// Attention: one task is one row and a few heads that read the same keys and values, so that a block of them comes from
// memory once for all of these heads. Positions are visited in blocks of 64 that begin at absolute multiples of 64,
// with a running maximum (online softmax), so that a row's bits depend on its own context only; heads do not mix
// either, so that they do not depend on which heads run together.
#include "kernels/op_plan.hpp"
#include "kernels/x86/tile_product.hpp"
#include "kernels/x86/x86_kernels.hpp"

#include <cstring>
#include <limits>

namespace moira {

namespace {

constexpr uint32_t block_positions = 64;

// Heads of one task: queries, outputs and running sums of 16 stay in the first cache beside a block.
constexpr uint32_t task_heads = 16;

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

// The visible token slots of one block and their softmax weights for each head.
struct alignas(64) position_block {
    float weights[task_heads][block_positions];
    const float* slots[block_positions];
    uint32_t count;
};

// Multiply-adds must be under way for two units with a latency of four cycles: eight keys for one query, or four keys
// for four (AVX2 has registers for two) that keep each vector for as many multiply-adds.
constexpr uint32_t keys_at_once = 8;
constexpr uint32_t heads_at_once = simd_lanes == 16 ? 4 : 2;

template <uint32_t heads, uint32_t key_count>
void dot_keys(const attention_task& task, uint32_t head, const float* const* keys, uint32_t first,
              position_block& block) {
    const float* query = task.query + head * task.query_stride;
    simd_float sums[heads][key_count];
    for (auto& row : sums)
        for (simd_float& sum : row)
            sum = simd_zero();
    for_vectors(task.key_width, [&](uint32_t offset, uint32_t count) {
        simd_float values[key_count];
#pragma GCC unroll 8
        for (uint32_t i = 0; i < key_count; ++i)
            values[i] = simd_load_some(keys[i] + offset, count);
#pragma GCC unroll 4
        for (uint32_t h = 0; h < heads; ++h) {
            const simd_float q = simd_load_some(query + h * task.query_stride + offset, count);
#pragma GCC unroll 8
            for (uint32_t i = 0; i < key_count; ++i)
                sums[h][i] = simd_multiply_add(q, values[i], sums[h][i]);
        }
    });
    for (uint32_t h = 0; h < heads; ++h)
        for (uint32_t i = 0; i < key_count; i += 4)
            simd_sum_four(sums[h] + i, block.weights[head + h] + first + i);
}

// Calls function.template operator()<n>(head) for all heads, n at a time.
template <class Function>
void for_heads(uint32_t heads, const Function& function) {
    uint32_t head = 0;
    for (; head + heads_at_once <= heads; head += heads_at_once)
        function.template operator()<heads_at_once>(head);
    for (; head < heads; ++head)
        function.template operator()<1>(head);
}

// Page by page: a division per position would cost as much as its dot product.
void find_slots(const moira_kv_view& kv, const moira_attention_row& row, uint32_t page_tokens, uint32_t begin,
                position_block& block) {
    const int32_t* page = kv.page_table + row.page_table_offset + begin / page_tokens;
    uint32_t within = begin % page_tokens;
    for (uint32_t i = 0; i < block.count; ++page, within = 0) {
        const float* slot =
            static_cast<const float*>(kv.pool) + (uint64_t(*page) * page_tokens + within) * kv.slot_stride;
        for (; within < page_tokens && i < block.count; ++within, ++i, slot += kv.slot_stride)
            block.slots[i] = slot;
    }
}

void score_block(const attention_task& task, position_block& block) {
    for (uint32_t first = 0; first < block.count; first += keys_at_once) {
        const float* keys[keys_at_once];
        for (uint32_t i = 0; i < keys_at_once; ++i) // past the end the last one again, to be overwritten later
            keys[i] = block.slots[std::min(first + i, block.count - 1)] + task.key_offset;
        for_heads(task.heads, [&]<uint32_t heads>(uint32_t head) {
            constexpr uint32_t key_count = heads == 1 ? keys_at_once : 4;
            for (uint32_t i = 0; i < keys_at_once; i += key_count)
                dot_keys<heads, key_count>(task, head, keys + i, first + i, block);
        });
    }
}

// Scales the scores of a head; returns their maximum. Places without a position get -infinity, which weighs nothing.
float scale_scores(float scale, uint32_t count, float (&scores)[block_positions]) {
    for (uint32_t i = 0; i < count; ++i)
        scores[i] *= scale;
    for (uint32_t i = count; i < block_positions; ++i)
        scores[i] = -std::numeric_limits<float>::infinity();
    simd_float largest = simd_load(scores);
    for (uint32_t i = simd_lanes; i < block_positions; i += simd_lanes)
        largest = simd_maximum(largest, simd_load(scores + i));
    return simd_largest(largest);
}

// Scores to weights exp(score - maximum); returns their sum.
float weigh_scores(float (&scores)[block_positions], float maximum) {
    simd_float sum = simd_zero();
    for (uint32_t i = 0; i < block_positions; i += simd_lanes) {
        const simd_float weight = simd_exponential(simd_subtract(simd_load(scores + i), simd_set(maximum)));
        simd_store(scores + i, weight);
        sum = simd_add(sum, weight);
    }
    return simd_sum(sum);
}

// What each head has seen so far.
struct alignas(64) softmax_state {
    float maximum[task_heads];
    float sum[task_heads];
    float rescale[task_heads]; // of what was summed before the last block
};

void begin_softmax(const attention_task& task, softmax_state& state) {
    for (uint32_t head = 0; head < task_heads; ++head) {
        const bool sink = task.sinks && head < task.heads;
        state.maximum[head] = sink ? task.sinks[head] : -std::numeric_limits<float>::infinity();
        state.sum[head] = sink ? 1.0f : 0.0f;
    }
}

// Scores to weights, and by how much the running maximum grew.
void weigh_block(const attention_task& task, position_block& block, softmax_state& state) {
    float larger[task_heads] = {};
    float growth[task_heads] = {};
    for (uint32_t head = 0; head < task.heads; ++head) {
        larger[head] = std::max(state.maximum[head], scale_scores(task.scale, block.count, block.weights[head]));
        growth[head] = state.maximum[head] - larger[head];
    }
    for (uint32_t i = 0; i < task_heads; i += simd_lanes)
        simd_store(state.rescale + i, simd_exponential(simd_load(growth + i))); // 0 in the first block
    for (uint32_t head = 0; head < task.heads; ++head) {
        state.maximum[head] = larger[head];
        state.sum[head] = state.sum[head] * state.rescale[head] + weigh_scores(block.weights[head], larger[head]);
    }
}

// out = out * rescale + weights * values for some heads and `vectors` vectors of columns.
template <uint32_t heads, uint32_t vectors>
void add_values(const attention_task& task, const position_block& block, const float* rescale, uint32_t head,
                uint32_t column) {
    float* out = task.out + head * task.out_stride + column;
    simd_float sums[heads][vectors];
#pragma GCC unroll 4
    for (uint32_t h = 0; h < heads; ++h)
#pragma GCC unroll 8
        for (uint32_t v = 0; v < vectors; ++v)
            sums[h][v] =
                simd_multiply(simd_load(out + h * task.out_stride + v * simd_lanes), simd_set(rescale[head + h]));
    for (uint32_t i = 0; i < block.count; ++i) {
        const float* value = block.slots[i] + task.value_offset + column;
        simd_float values[vectors];
#pragma GCC unroll 8
        for (uint32_t v = 0; v < vectors; ++v)
            values[v] = simd_load(value + v * simd_lanes);
#pragma GCC unroll 4
        for (uint32_t h = 0; h < heads; ++h) {
            const simd_float weight = simd_set(block.weights[head + h][i]);
#pragma GCC unroll 8
            for (uint32_t v = 0; v < vectors; ++v)
                sums[h][v] = simd_multiply_add(weight, values[v], sums[h][v]);
        }
    }
#pragma GCC unroll 4
    for (uint32_t h = 0; h < heads; ++h)
#pragma GCC unroll 8
        for (uint32_t v = 0; v < vectors; ++v)
            simd_store(out + h * task.out_stride + v * simd_lanes, sums[h][v]);
}

// Up to one vector of columns of one head.
void add_last_values(const attention_task& task, const position_block& block, const float* rescale, uint32_t head,
                     uint32_t column, uint32_t count) {
    float* out = task.out + head * task.out_stride + column;
    simd_float sum = simd_multiply(simd_load_some(out, count), simd_set(rescale[head]));
    for (uint32_t i = 0; i < block.count; ++i)
        sum = simd_multiply_add(simd_set(block.weights[head][i]),
                                simd_load_some(block.slots[i] + task.value_offset + column, count), sum);
    simd_store_some(out, sum, count);
}

void add_block(const attention_task& task, const position_block& block, const float* rescale) {
    uint32_t column = 0;
    if (task.heads == 1) // eight sums under way here too
        for (; column + 8 * simd_lanes <= task.value_width; column += 8 * simd_lanes)
            add_values<1, 8>(task, block, rescale, 0, column);
    for (; column + 4 * simd_lanes <= task.value_width; column += 4 * simd_lanes)
        for_heads(task.heads,
                  [&]<uint32_t heads>(uint32_t head) { add_values<heads, 4>(task, block, rescale, head, column); });
    for (uint32_t head = 0; head < task.heads; ++head)
        for_vectors(task.value_width - column, [&](uint32_t offset, uint32_t count) {
            add_last_values(task, block, rescale, head, column + offset, count);
        });
}

void divide_row(float* out, uint32_t width, float divisor) {
    for_vectors(width, [&](uint32_t offset, uint32_t count) {
        simd_store_some(out + offset, simd_divide(simd_load_some(out + offset, count), simd_set(divisor)), count);
    });
}

void clear_heads(const attention_task& task) {
    for (uint32_t head = 0; head < task.heads; ++head)
        std::memset(task.out + head * task.out_stride, 0, task.value_width * sizeof(float));
}

void attend(const attention_task& task, const moira_kv_view& kv, const moira_attention_row& row, uint32_t page_tokens,
            uint32_t first) {
    clear_heads(task);
    const auto end = static_cast<uint32_t>(row.context_length);
    if (first >= end)
        return;
    softmax_state state;
    begin_softmax(task, state);
    position_block block;
    for (uint32_t start = first / block_positions * block_positions; start < end; start += block_positions) {
        const uint32_t begin = std::max(start, first);
        block.count = std::min(start + block_positions, end) - begin;
        find_slots(kv, row, page_tokens, begin, block);
        score_block(task, block);
        weigh_block(task, block, state);
        add_block(task, block, state.rescale);
    }
    for (uint32_t head = 0; head < task.heads; ++head)
        divide_row(task.out + head * task.out_stride, task.value_width, state.sum[head]);
}

// Units are numbered head * rows + row. Calls function(head, count, row) for runs of heads of one row within the share:
// at most task_heads, all within one group of `group` heads. A group's rows follow each other, so that its weights stay
// in the cache.
template <class Function>
void for_head_runs(const work_share& share, uint64_t rows, uint64_t heads, uint64_t group, const Function& function) {
    const uint64_t step = std::min<uint64_t>(group, task_heads);
    for (uint64_t group_begin = share.begin / rows / group * group; group_begin * rows < share.end;
         group_begin += group)
        for (uint64_t run = group_begin; run < std::min(group_begin + group, heads); run += step)
            for (uint64_t row = 0; row < rows; ++row) {
                const uint64_t run_end = std::min({run + step, group_begin + group, heads});
                // The first head with head * rows + row >= begin, and with >= end.
                const uint64_t from = share.begin > row ? (share.begin - row + rows - 1) / rows : 0;
                const uint64_t to = share.end > row ? (share.end - row + rows - 1) / rows : 0;
                const uint64_t begin = std::max(run, from);
                const uint64_t end = std::min(run_end, to);
                if (begin < end)
                    function(begin, static_cast<uint32_t>(end - begin), row);
            }
}

// out[n] = matrix [n, k] * x[k].
void project(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* packed, const float* x,
             float* out) {
    // Weights are widened, activations exact: two more roundings per score would be felt in every layer.
    const tile_matrix matrix = tile_matrix_at(quantization, MOIRA_COMPUTE_F32, n, k, packed);
    tile_sums sums;
    for (uint64_t tile = 0; tile < tile_count(n); ++tile) {
        const tile_weights weights = matrix.at(tile, 1);
        multiply_tiles(matrix.shape, &weights, 1, &x, 1, &sums);
        const uint64_t columns = std::min<uint64_t>(tile_columns, n - tile * tile_columns);
        std::memcpy(out + tile * tile_columns, sums.at[0], columns * sizeof(float));
    }
}

} // namespace

void x86_attention_gqa(const moira_attention_gqa_desc& desc, const moira_attention_args& args,
                       const work_share& share) {
    const page_limits limits = page_limits_of(desc, args);
    const uint64_t group = desc.heads / desc.kv_heads;
    for_head_runs(share, args.rows, desc.heads, group, [&](uint64_t head, uint32_t count, uint64_t index) {
        const moira_attention_row& row = args.row_table[index];
        const uint64_t key_offset = head / group * desc.head_dim;
        const attention_task task{count,
                                  args.q + index * args.q_stride + head * desc.head_dim,
                                  desc.head_dim,
                                  args.out + index * args.out_stride + head * desc.head_dim,
                                  desc.head_dim,
                                  desc.head_dim,
                                  desc.head_dim,
                                  key_offset,
                                  key_offset + args.kv.value_offset,
                                  desc.scale,
                                  desc.sinks ? args.sinks + head : nullptr};
        const uint32_t first = attention_first_position(row, desc.window);
        if (attention_row_valid(row, args.kv.page_table, limits, first))
            attend(task, args.kv, row, desc.page_tokens, first);
        else
            clear_heads(task); // reported by find_error
    });
}

void x86_attention_mla(const moira_attention_mla_desc& desc, const moira_attention_args& args,
                       const work_share& share) {
    const page_limits limits = page_limits_of(desc, args);
    const mla_layout layout =
        mla_layout_of(tile_packing(), desc.quantization, desc.kv_rank, desc.key_dim, desc.value_dim);
    const uint64_t query_stride = mla_query_floats(desc);
    const uint64_t latent_stride = mla_latent_floats(desc);
    float* queries = share.scratch;
    float* latents = queries + query_stride * mla_task_heads(desc);
    for_head_runs(
        share, args.rows, desc.heads, mla_task_heads(desc), [&](uint64_t head, uint32_t count, uint64_t index) {
            const moira_attention_row& row = args.row_table[index];
            float* out = args.out + index * args.out_stride + head * desc.value_dim;
            if (!attention_row_valid(row, args.kv.page_table, limits, 0)) { // reported by find_error
                std::memset(out, 0, uint64_t{count} * desc.value_dim * sizeof(float));
                return;
            }
            const char* packed = static_cast<const char*>(args.weight) + head * layout.head_bytes;
            const float* q = args.q + index * args.q_stride + head * (uint64_t{desc.key_dim} + desc.rope_dim);
            for (uint32_t i = 0; i < count; ++i) {
                const float* from = q + i * (uint64_t{desc.key_dim} + desc.rope_dim);
                float* query = queries + i * query_stride;
                project(desc.quantization, desc.kv_rank, desc.key_dim, packed + i * layout.head_bytes, from, query);
                std::memcpy(query + desc.kv_rank, from + desc.key_dim, desc.rope_dim * sizeof(float));
            }
            const attention_task task{
                count, queries, query_stride, latents, latent_stride, desc.kv_rank + desc.rope_dim, desc.kv_rank,
                0,     0,       desc.scale,   nullptr};
            attend(task, args.kv, row, desc.page_tokens, 0);
            for (uint32_t i = 0; i < count; ++i)
                project(desc.quantization, desc.value_dim, desc.kv_rank, packed + i * layout.head_bytes + layout.value,
                        latents + i * latent_stride, out + uint64_t{i} * desc.value_dim);
        });
}

} // namespace moira
