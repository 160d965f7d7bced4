// Attention to keys and values in float32: one task is one row and a few heads that read the same keys and values, so
// that a block of them comes from memory once for all of these heads. Positions are visited in blocks of 64 that begin
// at absolute multiples of 64, with a running maximum (online softmax), so that a row's bits depend on its own context
// only; heads do not mix either, so that they do not depend on which heads run together.
#include "kernels/x86/attention_task.hpp"
#include "kernels/x86/simd.hpp"

#include <cstring>
#include <limits>

namespace moira {

namespace {

// The visible token slots of one block, and their softmax weights for each head. next: what is asked for meanwhile,
// place by place.
struct alignas(64) position_block : slot_block<float> {
    float weights[task_heads][block_positions];
    const float* next[block_positions];
};

// Multiply-adds must be under way for two units with a latency of four cycles: eight keys for one query, or four keys
// for four (AVX2 has registers for two) that keep each vector for as many multiply-adds.
constexpr uint32_t keys_at_once = 8;
constexpr uint32_t heads_at_once = simd_lanes == 16 ? 4 : 2;

// The next block's lines are asked for in step with what is computed: memory takes a few at a time, and in a burst they
// would hold up everything behind them. Slots lie too far apart for hardware prefetch. Hints for the second cache alone
// were dropped under load: 10 to 20 % slower (Zen 5).
template <uint32_t count>
inline void fetch_lines(const float* address) {
#pragma GCC unroll 8
    for (uint32_t i = 0; i < count; ++i)
        _mm_prefetch(address + i * 16, _MM_HINT_T0);
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

} // namespace

void attend_f32(const attention_task* tasks, uint32_t task_count, const attended_row& from) {
    const auto end = static_cast<uint32_t>(from.row.context_length);
    softmax_state states[row_tasks];
    for (uint32_t t = 0; t < task_count; ++t) {
        clear_heads(tasks[t]);
        begin_softmax(tasks[t], states[t]);
    }
    if (from.first >= end)
        return;
    position_block block;
    slot_block<float> next;
    find_block(from, from.first, std::min(block_end(from.first), end), next);
    for (uint32_t begin = from.first; begin < end; begin = block_end(begin)) {
        static_cast<slot_block<float>&>(block) = next;
        find_block(from, block_end(begin), std::min(block_end(block_end(begin)), end), next);
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

} // namespace moira
