// Attention to keys and values in BF16, by dot products of pairs: scores over pairs of dimensions, weighted values over
// pairs of positions. Queries and softmax weights are rounded to BF16 for them (nearest even; subnormals count as 0);
// scores, maxima and all sums are float32, that of the weights before rounding.
//
// Positions are visited in blocks of 64 with a running maximum (online softmax) within spans of 1,024, and spans are
// merged in order. Blocks and spans begin at absolute multiples, heads do not mix, and every score and every value has
// one order of additions: bits depend on the row's own context only, whoever computes a span.
#include "kernels/x86/attention_task.hpp"
#include "kernels/x86/simd.hpp"

#include <cstring>
#include <limits>

namespace moira {

namespace {

constexpr uint32_t block_pairs = block_positions / 2;
constexpr float lowest = -std::numeric_limits<float>::infinity();

// Columns of values that are paired up for all heads of a task: with the heads' sums 24 KiB of the first cache, which a
// slot stride of a power of two would use badly.
constexpr uint32_t panel_chunks = 4; // of 32 columns

// What the next block reads, line by line in the order of memory. It is asked for in step with what is computed: memory
// takes a few lines at a time, and in a burst they would hold up everything behind them; in each head's order it would
// open the same rows of memory again and again. Slots lie too far apart for hardware prefetch. Hints for the second
// cache alone were dropped under load: 60 % slower for grouped queries, 10 % for latents (Zen 5).
struct line_stream {
    const uint16_t* const* slot;
    const uint16_t* const* end;
    uint64_t offset[2]; // of the keys and of the values of all tasks within a slot
    uint32_t lines[2];
    uint32_t run; // 0: keys are next
    const uint16_t* at;
    uint32_t left; // lines of this run
};

[[gnu::noinline]] bool begin_run(line_stream& stream) {
    do {
        if (stream.slot == stream.end)
            return false;
        stream.at = *stream.slot + stream.offset[stream.run];
        stream.left = stream.lines[stream.run];
        stream.slot += stream.run;
        stream.run ^= 1;
    } while (stream.left == 0);
    return true;
}

[[gnu::always_inline]] inline void fetch_lines(line_stream& stream, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        if (stream.left == 0 && (stream.slot == stream.end || !begin_run(stream)))
            return;
        _mm_prefetch(stream.at, _MM_HINT_T0);
        stream.at += 32;
        --stream.left;
    }
}

// The visible slots of one block, what is read next, and of one task the heads' scores and weights and a panel of
// values as pairs of positions.
struct alignas(64) bf16_block : slot_block<uint16_t> {
    line_stream next;
    alignas(64) float scores[task_heads][block_positions];
    uint32_t weights[task_heads][block_pairs];
    float rescale[task_heads];
    uint32_t panel[panel_chunks][block_pairs][32];
};

// One task with its part of the scratch.
struct bf16_task {
    const attention_task& what;
    const uint32_t* queries; // BF16 pairs, zeros behind the last
    uint64_t query_stride;   // pairs between heads
    span_sums sums;
    uint64_t value_stride; // floats between heads
};

// Keys do not hold the values too.
bool values_apart(const attention_task& task) {
    return task.value_offset >= task.key_offset + task.key_width;
}

__m512i load_bf16(const uint16_t* address, uint32_t count) {
    if (count >= 32)
        return _mm512_loadu_si512(address);
    return _mm512_maskz_loadu_epi16((__mmask32{1} << count) - 1, address);
}

// Sixteen vectors to the sixteen sums of their lanes, each in the same order of additions: halves, quarters, and
// neighbours within the quarters.
[[gnu::always_inline]] inline __m512 sums_of_sixteen(const __m512* values) {
    __m512 quarters[4]; // quarter q of quarters[j]: what is left of values[4 * q + j]
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
        __m512 halves[2];
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
            const __m512 a = values[8 * i + j];
            const __m512 b = values[8 * i + 4 + j];
            halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
        }
        quarters[j] = _mm512_add_ps(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88),
                                    _mm512_shuffle_f32x4(halves[0], halves[1], 0xDD));
    }
    __m512 pairs[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
        pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(quarters[2 * i], quarters[2 * i + 1]),
                                 _mm512_unpackhi_ps(quarters[2 * i], quarters[2 * i + 1]));
    return _mm512_add_ps(_mm512_shuffle_ps(pairs[0], pairs[1], 0x44), _mm512_shuffle_ps(pairs[0], pairs[1], 0xEE));
}

// Sixteen scores: of four heads with four keys, two with eight, or one with sixteen. As many dot products are under
// way, and each vector that is loaded meets several.
template <uint32_t heads>
void score_keys(const bf16_task& task, uint32_t head, uint32_t first, bf16_block& block) {
    constexpr uint32_t keys = 16 / heads;
    const uint32_t* queries = task.queries + head * task.query_stride;
    const uint16_t* key[keys];
    for (uint32_t i = 0; i < keys; ++i) { // past the end the last one again, whose score nobody reads
        key[i] = block.slots[std::min(first + i, block.count - 1)] + task.what.key_offset;
    }
    __m512 sums[16];
#pragma GCC unroll 16
    for (auto& sum : sums)
        sum = _mm512_setzero_ps();
    const auto add = [&](uint32_t offset, uint32_t count) {
        __m512i query[heads];
#pragma GCC unroll 4
        for (uint32_t h = 0; h < heads; ++h)
            query[h] = _mm512_loadu_si512(queries + h * task.query_stride + offset / 2);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < keys; ++i) {
            const __m512i values = load_bf16(key[i] + offset, count);
#pragma GCC unroll 4
            for (uint32_t h = 0; h < heads; ++h)
                sums[h * keys + i] = simd_bf16_dot(sums[h * keys + i], query[h], values);
        }
    };
    const uint32_t width = task.what.key_width;
    uint32_t offset = 0;
    for (; offset + 32 <= width; offset += 32) {
        add(offset, 32);
    }
    if (offset < width)
        add(offset, width - offset);
    alignas(64) float totals[16];
    _mm512_store_ps(totals, sums_of_sixteen(sums));
    for (uint32_t h = 0; h < heads; ++h)
        std::memcpy(block.scores[head + h] + first, totals + h * keys, keys * sizeof(float));
}

void score_block(const bf16_task& task, bf16_block& block) {
    const uint32_t heads = task.what.heads;
    // As many lines as sixteen keys have, in equal parts; of values among them add_columns asks for half.
    const uint32_t of_keys = 16 * ((task.what.key_width + 31) / 32);
    const uint32_t of_values = values_apart(task.what) ? 0 : 8 * ((task.what.value_width + 31) / 32);
    const uint32_t lines = (of_keys - of_values + heads - 1) / heads;
    // A few keys stay in the first cache for all heads: fewer beside queries of more than 8 KiB.
    const uint32_t keys = heads % 4 == 0 && heads * task.query_stride > 2048 ? 4 : 16;
    for (uint32_t begin = 0; begin < block.count; begin += keys) {
        uint32_t head = 0;
        const auto score = [&]<uint32_t count>() {
            for (uint32_t first = begin; first < std::min(begin + keys, block.count); first += 16 / count) {
                fetch_lines(block.next, lines);
                score_keys<count>(task, head, first, block);
            }
            head += count;
        };
        while (heads - head >= 4)
            score.template operator()<4>();
        if (heads - head >= 2)
            score.template operator()<2>();
        if (heads - head >= 1)
            score.template operator()<1>();
    }
}

// Scores to weights exp(score - maximum), rounded; the running maximum and sum of the head. growth: by how much the
// maximum grew, as a number below 0.
void weigh_head(const bf16_task& task, uint32_t head, bf16_block& block, float& growth) {
    __m512 scores[4];
    __m512 largest = _mm512_set1_ps(lowest);
#pragma GCC unroll 4
    for (uint32_t v = 0; v < 4; ++v) {
        const uint32_t count = block.count > 16 * v ? block.count - 16 * v : 0;
        const auto mask = static_cast<__mmask16>(count >= 16 ? 0xFFFFu : (1u << count) - 1);
        scores[v] = _mm512_mask_mul_ps(_mm512_set1_ps(lowest), mask, _mm512_load_ps(block.scores[head] + 16 * v),
                                       _mm512_set1_ps(task.what.scale));
        largest = _mm512_max_ps(largest, scores[v]);
    }
    const float before = task.sums.maximum[head];
    const float maximum = std::max(before, _mm512_reduce_max_ps(largest));
    growth = before - maximum;
    task.sums.maximum[head] = maximum;
    __m512 sum = _mm512_setzero_ps();
#pragma GCC unroll 2
    for (uint32_t half = 0; half < 2; ++half) {
        const __m512 low = simd_exponential(_mm512_sub_ps(scores[2 * half], _mm512_set1_ps(maximum)));
        const __m512 high = simd_exponential(_mm512_sub_ps(scores[2 * half + 1], _mm512_set1_ps(maximum)));
        const auto pairs = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
        _mm512_store_si512(block.weights[head] + 16 * half, pairs);
        sum = _mm512_add_ps(sum, _mm512_add_ps(low, high));
    }
    block.scores[head][0] = _mm512_reduce_add_ps(sum);
}

void weigh_block(const bf16_task& task, bf16_block& block) {
    alignas(64) float growth[task_heads] = {};
    for (uint32_t head = 0; head < task.what.heads; ++head)
        weigh_head(task, head, block, growth[head]);
    _mm512_store_ps(block.rescale, simd_exponential(_mm512_load_ps(growth))); // 0 in the first block
    for (uint32_t head = 0; head < task.what.heads; ++head)
        task.sums.sum[head] = task.sums.sum[head] * block.rescale[head] + block.scores[head][0];
}

// Up to four times 32 columns of the block's values, as pairs of positions; what is missing is 0. Unpacking leaves the
// columns in an order of their own, which store_values undoes.
void pair_values(const bf16_task& task, uint32_t column, bf16_block& block) {
    const uint64_t offset = task.what.value_offset + column;
    const uint32_t columns = std::min(task.what.value_width - column, panel_chunks * 32);
    for (uint32_t pair = 0; 2 * pair < block.count; ++pair) {
        const uint16_t* first = block.slots[2 * pair] + offset;
        // The last one's partner has a weight of 0, which an infinity would not survive.
        const uint16_t* second = 2 * pair + 1 < block.count ? block.slots[2 * pair + 1] + offset : nullptr;
        for (uint32_t c = 0; 32 * c < columns; ++c) {
            const __m512i a = load_bf16(first + 32 * c, columns - 32 * c);
            const __m512i b = second ? load_bf16(second + 32 * c, columns - 32 * c) : _mm512_setzero_si512();
            _mm512_store_si512(block.panel[c][pair], _mm512_unpacklo_epi16(a, b));
            _mm512_store_si512(block.panel[c][pair] + 16, _mm512_unpackhi_epi16(a, b));
        }
    }
}

// sums = sums * rescale + weights * values, for some heads and some times 32 columns.
template <uint32_t heads, uint32_t chunks>
void add_columns(const bf16_task& task, uint32_t head, uint32_t column, uint32_t chunk, bf16_block& block) {
    float* out = task.sums.values + head * task.value_stride + column + 32 * chunk;
    __m512 sums[heads][2 * chunks];
#pragma GCC unroll 8
    for (uint32_t h = 0; h < heads; ++h)
#pragma GCC unroll 8
        for (uint32_t v = 0; v < 2 * chunks; ++v)
            sums[h][v] = _mm512_mul_ps(_mm512_loadu_ps(out + h * task.value_stride + 16 * v),
                                       _mm512_set1_ps(block.rescale[head + h]));
    const uint32_t lines = head == 0 ? chunks * (values_apart(task.what) ? 2 : 1) : 0;
    const uint32_t* weights = block.weights[head];
    const uint32_t* values = block.panel[chunk][0];
    const uint32_t pairs = (block.count + 1) / 2;
    for (uint32_t pair = 0; pair < pairs; ++pair, ++weights, values += 32) {
        fetch_lines(block.next, lines);
        __m512i value[2 * chunks];
#pragma GCC unroll 8
        for (uint32_t v = 0; v < 2 * chunks; ++v)
            value[v] = _mm512_load_si512(values + v / 2 * block_pairs * 32 + v % 2 * 16);
#pragma GCC unroll 8
        for (uint32_t h = 0; h < heads; ++h) {
            const __m512i weight = _mm512_set1_epi32(static_cast<int>(weights[h * block_pairs]));
#pragma GCC unroll 8
            for (uint32_t v = 0; v < 2 * chunks; ++v)
                sums[h][v] = simd_bf16_dot(sums[h][v], weight, value[v]);
        }
    }
#pragma GCC unroll 8
    for (uint32_t h = 0; h < heads; ++h)
#pragma GCC unroll 8
        for (uint32_t v = 0; v < 2 * chunks; ++v)
            _mm512_storeu_ps(out + h * task.value_stride + 16 * v, sums[h][v]);
}

// Sixteen sums at a time, or as many as there are.
template <uint32_t heads>
void add_panel(const bf16_task& task, uint32_t head, uint32_t column, uint32_t chunk_count, bf16_block& block) {
    constexpr uint32_t chunks = heads == 1 ? 4 : 8 / heads;
    uint32_t chunk = 0;
    for (; chunk + chunks <= chunk_count; chunk += chunks)
        add_columns<heads, chunks>(task, head, column, chunk, block);
    for (; chunk < chunk_count; ++chunk)
        add_columns<heads, 1>(task, head, column, chunk, block);
}

void add_block(const bf16_task& task, bf16_block& block) {
    const uint32_t heads = task.what.heads;
    for (uint32_t column = 0; column < task.what.value_width; column += panel_chunks * 32) {
        pair_values(task, column, block);
        const uint32_t chunks = std::min((task.what.value_width - column + 31) / 32, panel_chunks);
        uint32_t head = 0;
        for (; heads - head >= 8; head += 8)
            add_panel<8>(task, head, column, chunks, block);
        for (; heads - head >= 4; head += 4)
            add_panel<4>(task, head, column, chunks, block);
        for (; heads - head >= 2; head += 2)
            add_panel<2>(task, head, column, chunks, block);
        for (; heads - head >= 1; ++head)
            add_panel<1>(task, head, column, chunks, block);
    }
}

uint64_t query_pairs(uint32_t key_width) {
    return (uint64_t{key_width} + 31) / 32 * 16;
}

void round_queries(const attention_task* tasks, uint32_t task_count, uint32_t* queries) {
    for (uint32_t t = 0; t < task_count; ++t)
        for (uint32_t head = 0; head < tasks[t].heads; ++head, queries += query_pairs(tasks[t].key_width))
            for (uint32_t offset = 0; offset < tasks[t].key_width; offset += 32)
                simd_round_to_bf16(tasks[t].query + head * tasks[t].query_stride + offset,
                                   std::min(tasks[t].key_width - offset, 32u), queries + offset / 2);
}

uint32_t heads_of(const attention_task* tasks, uint32_t task_count) {
    uint32_t heads = 0;
    for (uint32_t t = 0; t < task_count; ++t)
        heads += tasks[t].heads;
    return heads;
}

void begin_sums(const span_sums& sums, uint32_t heads, uint32_t value_width) {
    std::memset(sums.values, 0, heads * span_value_floats(value_width) * sizeof(float));
    std::fill(sums.maximum, sums.maximum + heads, lowest);
    std::fill(sums.sum, sums.sum + heads, 0.0f);
}

// All keys, then all values of the tasks; one run where they touch.
line_stream lines_of(const attention_task* tasks, uint32_t task_count, const slot_block<uint16_t>& block) {
    const attention_task& first = tasks[0];
    const attention_task& last = tasks[task_count - 1];
    const auto lines = [](uint64_t elements) { return static_cast<uint32_t>((elements + 31) / 32); };
    const uint64_t keys = last.key_offset + last.key_width;
    const uint64_t values = last.value_offset + last.value_width;
    line_stream stream{
        block.slots, block.slots + block.count, {first.key_offset, first.value_offset}, {}, 0, nullptr, 0};
    if (first.value_offset <= keys)
        stream.lines[0] = lines(std::max(keys, values) - first.key_offset);
    else
        stream.lines[0] = lines(keys - first.key_offset), stream.lines[1] = lines(values - first.value_offset);
    return stream;
}

// Positions [begin, end) of one span for all tasks, whose queries are rounded.
void attend_span(const attention_task* tasks, uint32_t task_count, const attended_row& from, uint32_t begin,
                 uint32_t end, const uint32_t* queries, const span_sums& sums) {
    begin_sums(sums, heads_of(tasks, task_count), tasks[0].value_width);
    const auto context_end = static_cast<uint32_t>(from.row.context_length);
    bf16_block block;
    slot_block<uint16_t> next;
    find_block(from, begin, std::min(block_end(begin), end), next);
    for (uint32_t at = begin; at < end; at = block_end(at)) {
        static_cast<slot_block<uint16_t>&>(block) = next;
        // Behind the end of the span too: the next one is most often the same member's.
        find_block(from, block_end(at), std::min(block_end(block_end(at)), context_end), next);
        block.next = lines_of(tasks, task_count, next);
        uint32_t head = 0;
        for (uint32_t t = 0; t < task_count; head += tasks[t++].heads) {
            const uint64_t pairs = query_pairs(tasks[t].key_width);
            const bf16_task task{tasks[t], queries + head * pairs, pairs, heads_from(sums, head, tasks[t].value_width),
                                 span_value_floats(tasks[t].value_width)};
            score_block(task, block);
            weigh_block(task, block);
            add_block(task, block);
        }
    }
}

// into = into and span, for one head.
void merge_head(const span_sums& into, const span_sums& span, uint32_t value_width) {
    const float maximum = std::max(*into.maximum, *span.maximum);
    const __m512 mine = simd_exponential(_mm512_set1_ps(*into.maximum - maximum));
    const __m512 other = simd_exponential(_mm512_set1_ps(*span.maximum - maximum));
    *into.maximum = maximum;
    *into.sum = *into.sum * _mm512_cvtss_f32(mine) + *span.sum * _mm512_cvtss_f32(other);
    for (uint32_t column = 0; column < span_value_floats(value_width); column += 16) {
        const __m512 added = _mm512_mul_ps(_mm512_loadu_ps(span.values + column), other);
        _mm512_storeu_ps(into.values + column, _mm512_fmadd_ps(_mm512_loadu_ps(into.values + column), mine, added));
    }
}

// Divides, and puts the columns in order: of each 32, sums hold 0-3, 8-11, 16-19, 24-27, then the others.
void store_values(const span_sums& from, uint32_t value_width, float* out) {
    const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    const __m512 sum = _mm512_set1_ps(*from.sum);
    for (uint32_t column = 0; column < value_width; column += 32) {
        const __m512 first = _mm512_div_ps(_mm512_loadu_ps(from.values + column), sum);
        const __m512 second = _mm512_div_ps(_mm512_loadu_ps(from.values + column + 16), sum);
        const uint32_t count = value_width - column;
        simd_store_some(out + column, _mm512_permutex2var_ps(first, low, second), std::min(count, 16u));
        if (count > 16)
            simd_store_some(out + column + 16, _mm512_permutex2var_ps(first, high, second), std::min(count - 16, 16u));
    }
}

void begin_with_sink(const span_sums& sums, const float* sink) {
    if (!sink)
        return;
    *sums.maximum = *sink;
    *sums.sum = 1.0f;
}

} // namespace

void attend_bf16(const attention_task* tasks, uint32_t task_count, const attended_row& from, float* scratch) {
    const uint32_t heads = heads_of(tasks, task_count);
    const uint32_t width = tasks[0].value_width;
    const auto end = static_cast<uint32_t>(from.row.context_length);
    auto* queries = reinterpret_cast<uint32_t*>(scratch);
    float* sums = scratch + heads * query_pairs(tasks[0].key_width);
    const span_sums all = span_sums_at(sums, heads, width);
    const span_sums span = span_sums_at(sums + span_sums_floats(heads, width), heads, width);
    round_queries(tasks, task_count, queries);
    begin_sums(all, heads, width);
    for (uint32_t t = 0, head = 0; t < task_count; head += tasks[t++].heads)
        for (uint32_t h = 0; h < tasks[t].heads; ++h)
            begin_with_sink(heads_from(all, head + h, width), tasks[t].sinks ? tasks[t].sinks + h : nullptr);
    for (uint32_t begin = from.first; begin < end; begin = (begin / span_positions + 1) * span_positions) {
        attend_span(tasks, task_count, from, begin, std::min((begin / span_positions + 1) * span_positions, end),
                    queries, span);
        for (uint32_t head = 0; head < heads; ++head)
            merge_head(heads_from(all, head, width), heads_from(span, head, width), width);
    }
    for (uint32_t t = 0, head = 0; t < task_count; ++t)
        for (uint32_t h = 0; h < tasks[t].heads; ++h, ++head) {
            float* out = tasks[t].out + h * tasks[t].out_stride;
            if (from.first < end)
                store_values(heads_from(all, head, width), width, out);
            else
                std::memset(out, 0, width * sizeof(float));
        }
}

void attend_span_bf16(const attention_task* tasks, uint32_t task_count, const attended_row& from, uint32_t begin,
                      uint32_t end, const span_sums& sums, float* scratch) {
    auto* queries = reinterpret_cast<uint32_t*>(scratch);
    round_queries(tasks, task_count, queries);
    attend_span(tasks, task_count, from, begin, end, queries, sums);
}

void merge_spans_bf16(const span_sums& first, uint64_t stride, uint32_t count, uint32_t value_width, const float* sink,
                      float* scratch, float* out) {
    const span_sums all = span_sums_at(scratch, 1, value_width);
    begin_sums(all, 1, value_width);
    begin_with_sink(all, sink);
    for (uint32_t i = 0; i < count; ++i)
        merge_head(all, {first.values + i * stride, first.maximum + i * stride, first.sum + i * stride}, value_width);
    store_values(all, value_width, out);
}

} // namespace moira
