// Attention: one task is one (row, head). Positions are visited in blocks of 64 that begin at absolute multiples of 64,
// with a running maximum (online softmax), so that a row's bits depend on its own context only.
#include "kernels/op_plan.hpp"
#include "kernels/x86/tile_product.hpp"
#include "kernels/x86/x86_kernels.hpp"

#include <cstring>
#include <limits>

namespace moira {

namespace {

constexpr uint32_t block_positions = 64;

struct attention_task {
    const float* query;
    uint32_t key_width;
    uint32_t value_width;
    uint64_t key_offset;   // within a token slot
    uint64_t value_offset; // within a token slot
    float scale;
    const float* sink; // one more logit without a value, or nullptr
};

// The visible token slots of one block and their softmax weights.
struct alignas(64) position_block {
    float weights[block_positions];
    const float* slots[block_positions];
    uint32_t count;
};

// Keys that meet the query at a time: as many multiply-adds under way as two units with a latency of four cycles take.
constexpr uint32_t keys_at_once = 8;

// One sum per key; sums across lanes are shared by four.
void dot_keys(const float* query, const float* const (&keys)[keys_at_once], uint32_t width, float* scores) {
    simd_float sums[keys_at_once];
    for (simd_float& sum : sums)
        sum = simd_zero();
    for_vectors(width, [&](uint32_t offset, uint32_t count) {
        const simd_float q = simd_load_some(query + offset, count);
        for (uint32_t i = 0; i < keys_at_once; ++i)
            sums[i] = simd_multiply_add(q, simd_load_some(keys[i] + offset, count), sums[i]);
    });
    for (uint32_t i = 0; i < keys_at_once; i += 4)
        simd_sum_four(sums + i, scores + i);
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

// Scores of the block; returns their maximum. Places without a position get -infinity, which weighs nothing.
float score_block(const attention_task& task, position_block& block) {
    for (uint32_t first = 0; first < block.count; first += keys_at_once) {
        const float* keys[keys_at_once];
        for (uint32_t i = 0; i < keys_at_once; ++i) // past the end the last one again, to be overwritten below
            keys[i] = block.slots[std::min(first + i, block.count - 1)] + task.key_offset;
        dot_keys(task.query, keys, task.key_width, block.weights + first);
    }
    for (uint32_t i = 0; i < block.count; ++i)
        block.weights[i] *= task.scale;
    for (uint32_t i = block.count; i < block_positions; ++i)
        block.weights[i] = -std::numeric_limits<float>::infinity();
    simd_float largest = simd_load(block.weights);
    for (uint32_t i = simd_lanes; i < block_positions; i += simd_lanes)
        largest = simd_maximum(largest, simd_load(block.weights + i));
    return simd_largest(largest);
}

// Scores to weights exp(score - maximum); returns their sum.
float weigh_block(position_block& block, float maximum) {
    simd_float sum = simd_zero();
    for (uint32_t i = 0; i < block_positions; i += simd_lanes) {
        const simd_float weight = simd_exponential(simd_subtract(simd_load(block.weights + i), simd_set(maximum)));
        simd_store(block.weights + i, weight);
        sum = simd_add(sum, weight);
    }
    return simd_sum(sum);
}

template <uint32_t vectors>
void add_values(const position_block& block, uint64_t value_offset, float rescale, float* out) {
    simd_float sums[vectors];
    for (uint32_t v = 0; v < vectors; ++v)
        sums[v] = simd_multiply(simd_load(out + v * simd_lanes), simd_set(rescale));
    for (uint32_t i = 0; i < block.count; ++i) {
        const float* value = block.slots[i] + value_offset;
        for (uint32_t v = 0; v < vectors; ++v)
            sums[v] = simd_multiply_add(simd_set(block.weights[i]), simd_load(value + v * simd_lanes), sums[v]);
    }
    for (uint32_t v = 0; v < vectors; ++v)
        simd_store(out + v * simd_lanes, sums[v]);
}

// out = out * rescale + weights * values.
void add_block(const attention_task& task, const position_block& block, float rescale, float* out) {
    uint32_t offset = 0;
    for (; offset + 8 * simd_lanes <= task.value_width; offset += 8 * simd_lanes)
        add_values<8>(block, task.value_offset + offset, rescale, out + offset);
    for (; offset + 4 * simd_lanes <= task.value_width; offset += 4 * simd_lanes)
        add_values<4>(block, task.value_offset + offset, rescale, out + offset);
    for_vectors(task.value_width - offset, [&](uint32_t rest, uint32_t count) {
        simd_float sum = simd_multiply(simd_load_some(out + offset + rest, count), simd_set(rescale));
        for (uint32_t i = 0; i < block.count; ++i)
            sum = simd_multiply_add(simd_set(block.weights[i]),
                                    simd_load_some(block.slots[i] + task.value_offset + offset + rest, count), sum);
        simd_store_some(out + offset + rest, sum, count);
    });
}

void divide_row(float* out, uint32_t width, float divisor) {
    for_vectors(width, [&](uint32_t offset, uint32_t count) {
        simd_store_some(out + offset, simd_divide(simd_load_some(out + offset, count), simd_set(divisor)), count);
    });
}

float scalar_exponential(float x) {
    alignas(64) float values[simd_lanes];
    simd_store(values, simd_exponential(simd_set(x)));
    return values[0];
}

void attend(const attention_task& task, const moira_kv_view& kv, const moira_attention_row& row, uint32_t page_tokens,
            uint32_t first, float* out) {
    std::memset(out, 0, task.value_width * sizeof(float));
    const auto end = static_cast<uint32_t>(row.context_length);
    if (first >= end)
        return;
    float maximum = task.sink ? *task.sink : -std::numeric_limits<float>::infinity();
    float sum = task.sink ? 1.0f : 0.0f;
    position_block block;
    for (uint32_t start = first / block_positions * block_positions; start < end; start += block_positions) {
        const uint32_t begin = std::max(start, first);
        block.count = std::min(start + block_positions, end) - begin;
        find_slots(kv, row, page_tokens, begin, block);
        const float larger = std::max(maximum, score_block(task, block));
        const float rescale = scalar_exponential(maximum - larger); // 0 in the first block
        maximum = larger;
        sum = sum * rescale + weigh_block(block, maximum);
        add_block(task, block, rescale, out);
    }
    divide_row(out, task.value_width, sum);
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
        attend(task, args.kv, row, desc.page_tokens, first, out);
    }
}

void x86_attention_mla(const moira_attention_mla_desc& desc, const moira_attention_args& args,
                       const work_share& share) {
    const page_limits limits = page_limits_of(desc, args);
    const mla_layout layout =
        mla_layout_of(tile_packing(), desc.quantization, desc.kv_rank, desc.key_dim, desc.value_dim);
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
        const float* q = args.q + index * args.q_stride + head * (uint64_t{desc.key_dim} + desc.rope_dim);
        project(desc.quantization, desc.kv_rank, desc.key_dim, packed, q, query);
        std::memcpy(query + desc.kv_rank, q + desc.key_dim, desc.rope_dim * sizeof(float));
        const attention_task task{query, desc.kv_rank + desc.rope_dim, desc.kv_rank, 0, 0, desc.scale, nullptr};
        attend(task, args.kv, row, desc.page_tokens, 0, latent);
        project(desc.quantization, desc.value_dim, desc.kv_rank, packed + layout.value, latent, out);
    }
}

} // namespace moira
