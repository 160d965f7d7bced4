// Paged attention on mma.sync, for rows of any role; GQA, and MLA in latent space.
//
//   attention_check    one warp per row: are its context and pages in range, and which positions does it see
//   attention_rows     up to 16 heads of one row, which share keys: scores, softmax and weighted values
//   attention_merge    the sums of a row's splits, when its positions were shared out to several blocks
//
// Row-exact: positions are taken in tiles of 32 and in splits of split_tokens, both at absolute multiples. Each split
// starts afresh (running maximum, sum, weighted values); splits are merged in rising order by the same two rounded
// products and one sum per value, whether one block computed them one after another or several did at once. A row that
// sees nothing gets zeros. A candidate tree's rows see the positions below their context length, as the interface says;
// `parent` is not needed for that.
//
// Queries, keys, values and weights (probabilities) are BF16 in the products; scores, sums and softmax float32.
// Expected for decode: keys and values are read once per 16 heads, from 3 stages of 16 KiB in flight per block (GQA
// with 128 dimensions; MLA with 576: 36 KiB, 2 stages, 1 in flight), two or three blocks on an SM. For a
// context of 8,192 with 4 KV heads of 128: 16.8 MB, 5 us at an H100's bandwidth (ARITHMETIC.md has what is expected).
// The 16 rows of an mma hold one group's heads, half of them idle with 8: 32 flop per byte, far below the ridge of 295.
// Prefill reads keys and values from L2 once per row and KV head; a prompt of 2,048 costs about what the experts of its
// layer do, and longer ones more: tiles of rows that share their pages are not built yet.
#pragma once

#include "kernels/cuda/device/fragment_maps.hpp"
#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/number_formats.hpp"
#include "kernels/cuda/device/simt.hpp"
#include "plugins/moira_plugin.h"

#include <cmath>

namespace moira {

// What a row sees: positions [first, end), none when end is 0.
struct attention_span {
    uint32_t first;
    uint32_t end;
};

struct attention_kernel_args {
    // Queries: key_width elements per head, the first `split_at` of them at q, the rest at q_tail.
    const float* q;
    const float* q_tail;
    uint64_t q_row, q_head;           // strides
    uint64_t q_tail_row, q_tail_head; // strides
    uint32_t split_at;
    uint32_t key_width;
    uint32_t value_width;
    const uint16_t* pool;
    uint64_t slot_stride;
    uint64_t value_offset;   // from a head's keys to its values; 0: the values are the keys' first part
    uint64_t kv_head_stride; // between the keys of KV heads
    const int32_t* page_table;
    const moira_attention_row* row_table;
    attention_span* spans; // [rows]
    uint32_t rows;
    uint32_t page_table_entries;
    uint32_t page_tokens;
    uint32_t pages;
    uint32_t context_max;
    uint32_t window;
    uint32_t heads;
    uint32_t kv_group;     // heads per KV head
    uint32_t group_blocks; // blocks of 16 heads per KV head
    uint32_t split_tokens; // a multiple of 32
    float scale;
    const float* sinks; // or nullptr
    float* out;
    uint64_t out_row, out_head; // strides
    // When splits are shared out: [rows][splits][heads][value_width], then maxima and sums [rows][splits][heads].
    float* split_values;
    float* split_maxima;
    float* split_sums;
    uint32_t splits; // there is room for
    step_error_slot* error;
};

inline constexpr uint32_t attention_threads = 128;
inline constexpr uint32_t attention_tile = 32; // positions: one lane of ldmatrix each
inline constexpr uint32_t attention_heads = 16;
inline constexpr uint32_t attention_check_warps = 4;

// Widths are padded to whole fragments: key_width and value_width of the model are at most these.
template <uint32_t key_width_, uint32_t value_width_, bool values_in_keys_, uint32_t stages_>
struct attention_shape {
    static constexpr uint32_t key_width = key_width_;
    static constexpr uint32_t value_width = value_width_;
    static constexpr bool values_in_keys = values_in_keys_;
    static constexpr uint32_t stages = stages_;
    static constexpr uint32_t key_bytes = key_width * 2 + 16; // 8 rows of ldmatrix hit different banks
    static constexpr uint32_t value_bytes = values_in_keys ? key_bytes : value_width * 2 + 16;
    static constexpr uint32_t value_begin = values_in_keys ? 0 : attention_tile * key_bytes; // within a stage
    static constexpr uint32_t stage_bytes = value_begin + attention_tile * value_bytes;
    static constexpr uint32_t weight_bytes = attention_tile * 2 + 16;
    static constexpr uint32_t score_floats = attention_tile + 8; // the pairs of half a warp hit different banks
    // Dynamic shared memory: queries, stages, weights, scores, and four numbers per head.
    static constexpr uint32_t stage_begin = attention_heads * key_bytes;
    static constexpr uint32_t weight_begin = stage_begin + stages * stage_bytes;
    static constexpr uint32_t score_begin = weight_begin + attention_heads * weight_bytes;
    static constexpr uint32_t factor_begin = score_begin + attention_heads * score_floats * 4;
    static constexpr uint32_t shared_bytes = factor_begin + 3 * attention_heads * 4;
    static constexpr uint32_t value_tiles = value_width / 32; // of 8 columns, per warp
    static_assert(key_width % 32 == 0 && value_width % 32 == 0 && shared_bytes <= 163 * 1024);
};

// exp(x - maximum); what is -infinity counts for nothing, whatever the maximum.
SIMT_FN float attention_weight(float x, float maximum) {
    return x == -INFINITY ? 0.0f : expf(x - maximum);
}

// ---- attention_check -----------------------------------------------------------------------------------------------

SIMT_FN bool attention_context_valid(const attention_kernel_args& args, const moira_attention_row& row) {
    // A negative length is larger than every context_max, as an unsigned number.
    if (row.page_table_offset < 0 || uint32_t(row.context_length) > args.context_max)
        return false;
    const uint64_t page_end = (uint64_t(row.context_length) + args.page_tokens - 1) / args.page_tokens;
    return uint64_t(row.page_table_offset) + page_end <= args.page_table_entries;
}

// Grid: rows in fours.
SIMT_KERNEL(attention_check_warps* warp_lanes) attention_check(attention_kernel_args args) {
    const uint32_t index = blockIdx.x * attention_check_warps + warp_of_thread();
    if (index >= args.rows)
        return;
    const moira_attention_row row = args.row_table[index];
    uint32_t first = 0;
    if (args.window != 0 && row.position >= 0 && uint32_t(row.position) >= args.window)
        first = uint32_t(row.position) - args.window + 1;
    bool valid = attention_context_valid(args, row);
    if (valid) {
        const uint32_t page_end = (uint32_t(row.context_length) + args.page_tokens - 1) / args.page_tokens;
        for (uint32_t page = first / args.page_tokens + lane_of_thread(); page < page_end; page += warp_lanes) {
            const int32_t at = args.page_table[uint32_t(row.page_table_offset) + page];
            valid = valid && at >= 0 && uint32_t(at) < args.pages;
        }
    }
    valid = __ballot_sync(warp_full, valid ? 0 : 1) == 0;
    if (lane_of_thread() != 0)
        return;
    const bool sees = valid && first < uint32_t(row.context_length);
    args.spans[index] = sees ? attention_span{first, uint32_t(row.context_length)} : attention_span{0, 0};
    if (!valid)
        report_step_error(args.error, MOIRA_ERROR_PAGE_OUT_OF_RANGE, index, row.context_length);
}

// ---- attention_rows ------------------------------------------------------------------------------------------------

// What a block works on.
struct attention_work {
    uint32_t row;
    uint32_t first_head;
    uint32_t head_count; // up to 16
    uint32_t first;      // position that the row sees
    uint32_t end;
    const int32_t* pages; // of the row
    const uint16_t* keys; // of the KV head, slot 0
};

// The softmax of one head so far, in each of its 8 threads.
struct attention_state {
    float maximum = -INFINITY;
    float sum = 0.0f;
};

template <class Shape>
SIMT_FN void load_queries(const attention_kernel_args& args, const attention_work& work, unsigned char* shared) {
    constexpr uint32_t pairs = Shape::key_width / 2;
    for (uint32_t index = threadIdx.x; index < attention_heads * pairs; index += attention_threads) {
        const uint32_t head = index / pairs;
        const uint32_t d = index % pairs * 2;
        float value[2] = {0.0f, 0.0f};
        SIMT_UNROLL
        for (uint32_t i = 0; i < 2; ++i) {
            if (head >= work.head_count || d + i >= args.key_width)
                continue;
            const uint64_t at = work.first_head + head;
            value[i] = d + i < args.split_at
                           ? args.q[work.row * args.q_row + at * args.q_head + d + i]
                           : args.q_tail[work.row * args.q_tail_row + at * args.q_tail_head + d + i - args.split_at];
        }
        store_vector(shared + head * Shape::key_bytes + d * 2, bf16x2_of(value[0], value[1]));
    }
}

// Each warp copies 8 positions of a tile; what the row does not see becomes 0 and is not read.
template <class Shape>
SIMT_FN void copy_positions(const attention_kernel_args& args, const attention_work& work, uint32_t tile,
                            unsigned char* stage) {
    const uint32_t lane = lane_of_thread();
    const uint32_t local = warp_of_thread() * 8;
    const uint32_t mine = tile * attention_tile + local + lane % 8;
    uint32_t slot = 0xFFFFFFFFu;
    if (mine >= work.first && mine < work.end)
        slot = uint32_t(work.pages[mine / args.page_tokens]) * args.page_tokens + mine % args.page_tokens;
    SIMT_UNROLL
    for (uint32_t i = 0; i < 8; ++i) {
        const uint32_t at = __shfl_sync(warp_full, slot, int(i));
        const bool seen = at != 0xFFFFFFFFu;
        const uint16_t* keys = work.keys + (seen ? at * args.slot_stride : 0);
        for (uint32_t d = lane * 8; d < Shape::key_width; d += warp_lanes * 8) {
            const bool wanted = seen && d < args.key_width;
            cp_async16(stage + (local + i) * Shape::key_bytes + d * 2, keys + (wanted ? d : 0), wanted);
        }
        if constexpr (!Shape::values_in_keys) {
            for (uint32_t d = lane * 8; d < Shape::value_width; d += warp_lanes * 8) {
                const bool wanted = seen && d < args.value_width;
                cp_async16(stage + Shape::value_begin + (local + i) * Shape::value_bytes + d * 2,
                           keys + (wanted ? args.value_offset + d : 0), wanted);
            }
        }
    }
}

// Scores of the warp's 8 positions into shared memory; -infinity for positions that the row does not see. Sums of even
// and of odd steps of 16 dimensions are kept apart, so that two mma are under way.
template <class Shape>
SIMT_FN void score_positions(const attention_kernel_args& args, const attention_work& work, uint32_t tile,
                             const unsigned char* queries, const unsigned char* stage, float* scores) {
    const uint32_t lane = lane_of_thread();
    const uint32_t local = warp_of_thread() * 8;
    const unsigned char* query = queries + (lane % 8 + lane / 8 % 2 * 8) * Shape::key_bytes + lane / 16 * 16;
    const unsigned char* key = stage + (local + lane % 8) * Shape::key_bytes + lane / 8 * 16;
    float even[4] = {};
    float odd[4] = {};
    SIMT_UNROLL
    for (uint32_t step = 0; step < Shape::key_width / 32; ++step) {
        uint32_t b[4];
        uint32_t a[4];
        ldmatrix_x4(b, key + step * 64);
        const uint32_t first[2] = {b[0], b[1]};
        const uint32_t second[2] = {b[2], b[3]};
        ldmatrix_x4(a, query + step * 64);
        mma_16816_bf16(even, a, first);
        ldmatrix_x4(a, query + step * 64 + 32);
        mma_16816_bf16(odd, a, second);
    }
    const auto score = [&](uint32_t i) {
        const uint32_t position = tile * attention_tile + local + mma_c_place(lane, i).column;
        const bool seen = position >= work.first && position < work.end;
        return seen ? product(even[i] + odd[i], args.scale) : -INFINITY;
    };
    SIMT_UNROLL
    for (uint32_t half = 0; half < 2; ++half) {
        const tile_place place = mma_c_place(lane, half * 2); // the next element is in the next column
        float2 pair;
        pair.x = score(half * 2);
        pair.y = score(half * 2 + 1);
        store_vector(scores + place.row * Shape::score_floats + local + place.column, pair);
    }
}

// Eight threads per head: scores to weights, and the factor for what was summed under the old maximum.
template <class Shape>
SIMT_FN void weigh_scores(const float* scores, unsigned char* weights, float* factors, attention_state& state) {
    const uint32_t head = threadIdx.x / 8;
    const uint32_t first = threadIdx.x % 8 * 4;
    const auto mine = load_vector<float4>(scores + head * Shape::score_floats + first);
    float maximum = fmaxf(fmaxf(mine.x, mine.y), fmaxf(mine.z, mine.w));
    SIMT_UNROLL
    for (int distance = 1; distance < 8; distance *= 2)
        maximum = fmaxf(maximum, __shfl_xor_sync(warp_full, maximum, distance));
    maximum = fmaxf(maximum, state.maximum);
    const float weight[4] = {attention_weight(mine.x, maximum), attention_weight(mine.y, maximum),
                             attention_weight(mine.z, maximum), attention_weight(mine.w, maximum)};
    float sum = (weight[0] + weight[1]) + (weight[2] + weight[3]);
    SIMT_UNROLL
    for (int distance = 1; distance < 8; distance *= 2)
        sum += __shfl_xor_sync(warp_full, sum, distance);
    const float factor = attention_weight(state.maximum, maximum);
    state.sum = product(state.sum, factor) + sum;
    state.maximum = maximum;
    uint2 packed;
    packed.x = bf16x2_of(weight[0], weight[1]);
    packed.y = bf16x2_of(weight[2], weight[3]);
    store_vector(weights + head * Shape::weight_bytes + first * 2, packed);
    if (threadIdx.x % 8 == 0)
        factors[head] = factor;
}

// Adds the tile's weighted values to the warp's quarter of the value columns.
template <class Shape>
SIMT_FN void add_values(const unsigned char* weights, const unsigned char* stage, const float* factors,
                        float (&values)[Shape::value_tiles][4]) {
    const uint32_t lane = lane_of_thread();
    const unsigned char* weight = weights + (lane % 8 + lane / 8 % 2 * 8) * Shape::weight_bytes + lane / 16 * 16;
    uint32_t a[2][4];
    ldmatrix_x4(a[0], weight);
    ldmatrix_x4(a[1], weight + 32);
    const float upper = factors[mma_c_place(lane, 0).row];
    const float lower = factors[mma_c_place(lane, 2).row];
    const unsigned char* value = stage + Shape::value_begin + lane * Shape::value_bytes;
    SIMT_UNROLL
    for (uint32_t tile = 0; tile < Shape::value_tiles; ++tile) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, value + (warp_of_thread() * Shape::value_tiles + tile) * 16);
        const uint32_t first[2] = {b[0], b[1]};
        const uint32_t second[2] = {b[2], b[3]};
        SIMT_UNROLL
        for (uint32_t i = 0; i < 4; ++i)
            values[tile][i] = product(values[tile][i], i < 2 ? upper : lower);
        mma_16816_bf16(values[tile], a[0], first);
        mma_16816_bf16(values[tile], a[1], second);
    }
}

// Calls function(value, column, head within the block) for this lane's sums that exist.
template <class Shape, class Function>
SIMT_FN void for_values(const attention_kernel_args& args, const attention_work& work,
                        const float (&values)[Shape::value_tiles][4], const Function& function) {
    const uint32_t lane = lane_of_thread();
    SIMT_UNROLL
    for (uint32_t tile = 0; tile < Shape::value_tiles; ++tile) {
        SIMT_UNROLL
        for (uint32_t i = 0; i < 4; ++i) {
            const tile_place place = mma_c_place(lane, i);
            const uint32_t column = (warp_of_thread() * Shape::value_tiles + tile) * 8 + place.column;
            if (column < args.value_width && place.row < work.head_count)
                function(values[tile][i], column, place.row);
        }
    }
}

// One split's sums to memory, for attention_merge.
template <class Shape>
SIMT_FN void store_split(const attention_kernel_args& args, const attention_work& work, const attention_state& state,
                         const float (&values)[Shape::value_tiles][4]) {
    const uint64_t first = (uint64_t{work.row} * args.splits + blockIdx.x) * args.heads + work.first_head;
    for_values<Shape>(args, work, values, [&](float value, uint32_t column, uint32_t head) {
        args.split_values[(first + head) * args.value_width + column] = value;
    });
    const uint32_t head = threadIdx.x / 8;
    if (threadIdx.x % 8 == 0 && head < work.head_count) {
        args.split_maxima[first + head] = state.maximum;
        args.split_sums[first + head] = state.sum;
    }
}

// Merges a split into the totals and starts the next one. Every thread of the block. `factors`: 3 x 16 floats.
template <class Shape>
SIMT_FN void merge_split(attention_state& total, attention_state& state, float* factors,
                         float (&totals)[Shape::value_tiles][4], float (&values)[Shape::value_tiles][4]) {
    const float maximum = fmaxf(total.maximum, state.maximum);
    const float old_factor = attention_weight(total.maximum, maximum);
    const float new_factor = attention_weight(state.maximum, maximum);
    total.sum = product(total.sum, old_factor) + product(state.sum, new_factor);
    total.maximum = maximum;
    state = attention_state{};
    const uint32_t head = threadIdx.x / 8;
    if (threadIdx.x % 8 == 0) {
        factors[attention_heads + head] = old_factor;
        factors[2 * attention_heads + head] = new_factor;
    }
    __syncthreads();
    const uint32_t lane = lane_of_thread();
    SIMT_UNROLL
    for (uint32_t tile = 0; tile < Shape::value_tiles; ++tile) {
        SIMT_UNROLL
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t row = mma_c_place(lane, i).row;
            totals[tile][i] = product(totals[tile][i], factors[attention_heads + row]) +
                              product(values[tile][i], factors[2 * attention_heads + row]);
            values[tile][i] = 0.0f;
        }
    }
    // The factors are written again behind the barriers of the next tile.
}

// Grid: splits (or 1: the block takes all of the row's splits in order), blocks of heads, rows.
template <class Shape, bool shared_out>
SIMT_KERNEL(attention_threads)
attention_rows(attention_kernel_args args) {
    attention_work work;
    work.row = blockIdx.z;
    const uint32_t kv_head = blockIdx.y / args.group_blocks;
    const uint32_t in_group = blockIdx.y % args.group_blocks * attention_heads;
    work.first_head = kv_head * args.kv_group + in_group;
    work.head_count = args.kv_group - in_group < attention_heads ? args.kv_group - in_group : attention_heads;
    const attention_span span = args.spans[work.row];
    work.first = span.first;
    work.end = span.end;
    work.pages = args.page_table + (span.end != 0 ? args.row_table[work.row].page_table_offset : 0);
    work.keys = args.pool + kv_head * args.kv_head_stride;
    uint32_t first_tile = span.first / attention_tile;
    uint32_t end_tile = (span.end + attention_tile - 1) / attention_tile;
    const uint32_t split_tiles = args.split_tokens / attention_tile;
    if constexpr (shared_out) {
        first_tile = first_tile > blockIdx.x * split_tiles ? first_tile : blockIdx.x * split_tiles;
        end_tile = end_tile < (blockIdx.x + 1) * split_tiles ? end_tile : (blockIdx.x + 1) * split_tiles;
        if (first_tile >= end_tile)
            return; // attention_merge looks for no such split
    }
    SIMT_SHARED_DYNAMIC(unsigned char, shared);
    unsigned char* stages = shared + Shape::stage_begin;
    unsigned char* weights = shared + Shape::weight_begin;
    auto* scores = reinterpret_cast<float*>(shared + Shape::score_begin);
    auto* factors = reinterpret_cast<float*>(shared + Shape::factor_begin);
    load_queries<Shape>(args, work, shared);
    SIMT_UNROLL
    for (uint32_t ahead = 0; ahead + 1 < Shape::stages; ++ahead) {
        if (first_tile + ahead < end_tile)
            copy_positions<Shape>(args, work, first_tile + ahead, stages + ahead * Shape::stage_bytes);
        cp_async_commit();
    }
    attention_state state;
    attention_state total;
    const uint32_t head = threadIdx.x / 8;
    if (!shared_out && args.sinks && head < work.head_count) {
        total.maximum = args.sinks[work.first_head + head];
        total.sum = 1.0f;
    }
    float values[Shape::value_tiles][4] = {};
    float totals[Shape::value_tiles][4] = {};
    for (uint32_t tile = first_tile; tile < end_tile; ++tile) {
        cp_async_wait<int(Shape::stages) - 2>();
        // The tile has arrived for everybody, and nobody reads the stage that is filled next.
        __syncthreads();
        const uint32_t next = tile + Shape::stages - 1;
        if (next < end_tile)
            copy_positions<Shape>(args, work, next, stages + (next - first_tile) % Shape::stages * Shape::stage_bytes);
        cp_async_commit();
        const unsigned char* stage = stages + (tile - first_tile) % Shape::stages * Shape::stage_bytes;
        score_positions<Shape>(args, work, tile, shared, stage, scores);
        __syncthreads();
        weigh_scores<Shape>(scores, weights, factors, state);
        __syncthreads();
        add_values<Shape>(weights, stage, factors, values);
        if constexpr (!shared_out) {
            if ((tile + 1) % split_tiles == 0 || tile + 1 == end_tile)
                merge_split<Shape>(total, state, factors, totals, values);
        }
    }
    if constexpr (shared_out) {
        store_split<Shape>(args, work, state, values);
    } else {
        if (threadIdx.x % 8 == 0)
            factors[head] = total.sum;
        __syncthreads();
        for_values<Shape>(args, work, totals, [&](float value, uint32_t column, uint32_t at) {
            args.out[work.row * args.out_row + (work.first_head + at) * args.out_head + column] =
                span.end != 0 ? value / factors[at] : 0.0f;
        });
    }
}

// ---- attention_merge -----------------------------------------------------------------------------------------------

// Grid: heads, rows.
SIMT_KERNEL(attention_threads) attention_merge(attention_kernel_args args) {
    const uint32_t head = blockIdx.x;
    const uint32_t row = blockIdx.y;
    const attention_span span = args.spans[row];
    float* out = args.out + row * args.out_row + head * args.out_head;
    const uint32_t end_split = (span.end + args.split_tokens - 1) / args.split_tokens;
    for (uint32_t column = threadIdx.x; column < args.value_width; column += attention_threads) {
        attention_state total;
        if (args.sinks) {
            total.maximum = args.sinks[head];
            total.sum = 1.0f;
        }
        float value = 0.0f;
        for (uint32_t split = span.first / args.split_tokens; split < end_split; ++split) {
            const uint64_t at = (uint64_t{row} * args.splits + split) * args.heads + head;
            const float maximum = fmaxf(total.maximum, args.split_maxima[at]);
            const float old_factor = attention_weight(total.maximum, maximum);
            const float new_factor = attention_weight(args.split_maxima[at], maximum);
            total.sum = product(total.sum, old_factor) + product(args.split_sums[at], new_factor);
            total.maximum = maximum;
            value = product(value, old_factor) + product(args.split_values[at * args.value_width + column], new_factor);
        }
        out[column] = span.end != 0 ? value / total.sum : 0.0f;
    }
}

} // namespace moira
