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

// Tasks of one row at a time: the KV heads of most models.
constexpr uint32_t row_tasks = 16;

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

// The visible token slots of one block.
struct slot_block {
    const float* slots[block_positions];
    uint32_t count;
};

// And their softmax weights for each head. next: what is asked for meanwhile, place by place.
struct alignas(64) position_block : slot_block {
    float weights[task_heads][block_positions];
    const float* next[block_positions];
};

// Multiply-adds must be under way for two units with a latency of four cycles: eight keys for one query, or four keys
// for four (AVX2 has registers for two) that keep each vector for as many multiply-adds.
constexpr uint32_t keys_at_once = 8;
constexpr uint32_t heads_at_once = simd_lanes == 16 ? 4 : 2;

// The next block's lines are asked for in step with what is computed: memory takes a few at a time, and in a burst they
// would hold up everything behind them. Slots lie too far apart for hardware prefetch.
template <uint32_t count>
inline void fetch_lines(const float* address) {
#pragma GCC unroll 8
    for (uint32_t i = 0; i < count; ++i)
        _mm_prefetch(address + i * 16, _MM_HINT_T1);
}

template <uint32_t heads, uint32_t key_count>
void dot_keys(const attention_task& task, uint32_t head, const float* const* keys, uint32_t first,
              position_block& block) {
    const float* query = task.query + head * task.query_stride;
    simd_float sums[heads][key_count];
    for (auto& row : sums)
        for (simd_float& sum : row)
            sum = simd_zero();
    for_vectors(task.key_width, [&](uint32_t offset, uint32_t count) {
        if (head == 0)
            for (uint32_t i = 0; i < key_count; ++i)
                fetch_lines<1>(block.next[first + i] + task.key_offset + offset);
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
                slot_block& block) {
    const int32_t* page = kv.page_table + row.page_table_offset + begin / page_tokens;
    uint32_t within = begin % page_tokens;
    for (uint32_t i = 0; i < block.count; ++page, within = 0) {
        const float* slot =
            static_cast<const float*>(kv.pool) + (uint64_t(*page) * page_tokens + within) * kv.slot_stride;
        for (; within < page_tokens && i < block.count; ++within, ++i, slot += kv.slot_stride)
            block.slots[i] = slot;
    }
}

uint32_t block_end(uint32_t begin) {
    return (begin / block_positions + 1) * block_positions;
}

// The slots from `begin` to the end of its block or of the context; none behind the context.
void find_block(const moira_kv_view& kv, const moira_attention_row& row, uint32_t page_tokens, uint32_t begin,
                slot_block& block) {
    const uint32_t end = std::min(block_end(begin), static_cast<uint32_t>(row.context_length));
    block.count = end > begin ? end - begin : 0;
    if (block.count > 0)
        find_slots(kv, row, page_tokens, begin, block);
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
        if (head == 0)
            fetch_lines<vectors * simd_lanes / 16>(block.next[i] + task.value_offset + column);
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

// All tasks of one row: block by block, so that slots come from memory in one stream whatever part each task reads.
void attend(const attention_task* tasks, uint32_t task_count, const moira_kv_view& kv, const moira_attention_row& row,
            uint32_t page_tokens, uint32_t first) {
    const auto end = static_cast<uint32_t>(row.context_length);
    softmax_state states[row_tasks];
    for (uint32_t t = 0; t < task_count; ++t) {
        clear_heads(tasks[t]);
        begin_softmax(tasks[t], states[t]);
    }
    if (first >= end)
        return;
    position_block block;
    slot_block next;
    find_block(kv, row, page_tokens, first, next);
    for (uint32_t begin = first; begin < end; begin = block_end(begin)) {
        static_cast<slot_block&>(block) = next;
        find_block(kv, row, page_tokens, block_end(begin), next);
        for (uint32_t i = 0; i < block_positions; ++i)
            block.next[i] = i < next.count ? next.slots[i] : block.slots[0]; // there is no more: what is here
        for (uint32_t t = 0; t < task_count; ++t) {
            score_block(tasks[t], block);
            weigh_block(tasks[t], block, states[t]);
            add_block(tasks[t], block, states[t].rescale);
        }
    }
    for (uint32_t t = 0; t < task_count; ++t)
        for (uint32_t head = 0; head < tasks[t].heads; ++head)
            divide_row(tasks[t].out + head * tasks[t].out_stride, tasks[t].value_width, states[t].sum[head]);
}

// Units are numbered head * rows + row.
struct head_range {
    uint64_t begin;
    uint64_t end;
};

// The heads of a row that belong to the share: those with begin <= head * rows + row < end.
head_range heads_of_row(const work_share& share, uint64_t rows, uint64_t row) {
    const auto first_from = [&](uint64_t unit) { return unit > row ? (unit - row + rows - 1) / rows : 0; };
    return {first_from(share.begin), first_from(share.end)};
}

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

// Some heads of a few rows, in latent space. Rows share the projections' weights; each then attends on its own.
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
};

void project_queries(const mla_work& work, uint64_t head) {
    const moira_attention_mla_desc& desc = work.desc;
    const float* from[mla_task_rows] = {};
    float* to[mla_task_rows] = {};
    for (uint64_t r = 0; r < work.rows; ++r) {
        from[r] = work.args.q + (work.row + r) * work.args.q_stride +
                  (work.heads.begin + head) * (uint64_t{desc.key_dim} + desc.rope_dim);
        to[r] = work.query(r, head);
        std::memcpy(to[r] + desc.kv_rank, from[r] + desc.key_dim, desc.rope_dim * sizeof(float));
    }
    project(desc.quantization, desc.kv_rank, desc.key_dim, work.weights(head), work.rows, from, to);
}

void project_values(const mla_work& work, uint64_t head) {
    const moira_attention_mla_desc& desc = work.desc;
    const float* from[mla_task_rows] = {};
    float* to[mla_task_rows] = {};
    for (uint64_t r = 0; r < work.rows; ++r) {
        from[r] = work.latent(r, head);
        to[r] = work.args.out + (work.row + r) * work.args.out_stride + (work.heads.begin + head) * desc.value_dim;
    }
    project(desc.quantization, desc.value_dim, desc.kv_rank, work.weights(head) + work.layout.value, work.rows, from,
            to);
}

void attend_mla(const mla_work& work) {
    const moira_attention_mla_desc& desc = work.desc;
    for (uint64_t head = 0; head < work.head_count(); ++head)
        project_queries(work, head);
    for (uint64_t r = 0; r < work.rows; ++r) {
        attention_task task{};
        task.heads = static_cast<uint32_t>(work.head_count());
        task.query = work.query(r, 0);
        task.query_stride = mla_query_floats(desc);
        task.out = work.latent(r, 0);
        task.out_stride = mla_latent_floats(desc);
        task.key_width = desc.kv_rank + desc.rope_dim;
        task.value_width = desc.kv_rank;
        task.scale = desc.scale;
        attend(&task, 1, work.args.kv, work.args.row_table[work.row + r], desc.page_tokens, 0);
    }
    for (uint64_t head = 0; head < work.head_count(); ++head)
        project_values(work, head);
}

} // namespace

void x86_attention_gqa(const moira_attention_gqa_desc& desc, const moira_attention_args& args,
                       const work_share& share) {
    const page_limits limits = page_limits_of(desc, args);
    for (uint64_t index = 0; index < args.rows; ++index) {
        const moira_attention_row& row = args.row_table[index];
        const uint32_t first = attention_first_position(row, desc.window);
        const bool valid = attention_row_valid(row, args.kv.page_table, limits, first); // reported by find_error
        const head_range heads = heads_of_row(share, args.rows, index);
        for (uint64_t head = heads.begin; head < heads.end;) {
            attention_task tasks[row_tasks];
            uint32_t count = 0;
            for (; count < row_tasks && head < heads.end; ++count) {
                tasks[count] = gqa_task(desc, args, index, head, heads.end);
                if (!valid)
                    clear_heads(tasks[count]);
                head += tasks[count].heads;
            }
            if (valid)
                attend(tasks, count, args.kv, row, desc.page_tokens, first);
        }
    }
}

// A few heads of all rows after the other, so that the heads' weights stay in the cache.
void x86_attention_mla(const moira_attention_mla_desc& desc, const moira_attention_args& args,
                       const work_share& share) {
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
                float* out = args.out + work.row * args.out_stride + work.heads.begin * desc.value_dim;
                std::memset(out, 0, work.head_count() * desc.value_dim * sizeof(float));
                continue;
            }
            for (; work.rows < mla_task_rows && work.row + work.rows < args.rows; ++work.rows) {
                const head_range next = heads_at(work.row + work.rows, begin);
                if (next.begin != work.heads.begin || next.end != work.heads.end || !valid(work.row + work.rows))
                    break;
            }
            attend_mla(work);
        }
    }
}

} // namespace moira
