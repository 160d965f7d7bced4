#include "core/execute/attention_block.hpp"

namespace moira {

namespace {

std::uint64_t u64(std::int32_t value) { return static_cast<std::uint64_t>(value); }
std::uint32_t row_count(const step_arena& arena) { return static_cast<std::uint32_t>(arena.rows); }

moira_rope_args rope_args(const step_context& step, float* first, std::int32_t row_stride, std::int32_t head_stride) {
    return {row_count(step.arena), 0,           first, u64(row_stride), u64(head_stride), step.arena.positions.as<std::int32_t>(),
            step.weights.rope.as<float>()};
}

moira_kv_append_args append_args(const step_context& step, void* kv_pool) {
    const auto width = u64(step.shape.kv_width());
    return {row_count(step.arena), 0, step.arena.kv.as<float>(), width, step.arena.slots.as<std::int32_t>(), kv_pool, width};
}

moira_attention_args attention_args(const step_context& step, const void* kv_pool, std::int32_t value_offset,
                                    const void* weight) {
    auto& arena = step.arena;
    moira_attention_args args{};
    args.rows = row_count(arena);
    args.page_table_entries = static_cast<std::uint32_t>(arena.page_table_entries);
    args.q = arena.query.as<float>();
    args.q_stride = u64(step.shape.query_width());
    args.row_table = arena.attention_rows.as<moira_attention_row>();
    args.kv = {kv_pool, u64(step.shape.kv_width()), u64(value_offset), arena.page_table.as<std::int32_t>()};
    args.weight = weight;
    args.out = arena.attended.as<float>();
    args.out_stride = u64(step.shape.attention_width());
    args.workspace = arena.workspace.as<void>();
    return args;
}

/// Norm of every head in place: `heads` vectors per row.
moira_rmsnorm_args head_norm_args(const norm& weights, const step_arena& arena, float* x, std::int32_t row_stride,
                                  std::int32_t heads, std::int32_t head_dim) {
    return {row_count(arena), static_cast<std::uint32_t>(heads), x, x, weights.weight.as<float>(), u64(row_stride),
            u64(row_stride), u64(head_dim)};
}

/// DeepSeek-V2, section 2.1: the cache keeps a latent c and one rotated key per token; keys and values of all heads are
/// projections of c that the attention op absorbs into queries and outputs.
result<void> run_mla(const step_context& step, const mla_attention& attention, const mla_shape& shape, void* kv_pool) {
    auto& arena = step.arena;
    const auto hidden = step.shape.hidden;
    const auto query_width = step.shape.query_width();
    const auto kv_width = step.shape.kv_width();
    auto* normed = arena.normed.as<float>();
    auto* query = arena.query.as<float>();
    auto* kv = arena.kv.as<float>();

    // q = W_q h, or W_qb norm(W_qa h)
    if (attention.query) {
        const auto q = linear_args(*attention.query, arena, normed, hidden, query, query_width);
        if (auto done = step.queue.launch({{attention.query->op, &q}}); !done)
            return done;
    } else {
        auto* low = arena.query_low.as<float>();
        const auto q_a = linear_args(*attention.query_a, arena, normed, hidden, low, shape.query_rank);
        const auto q_norm = norm_args(*attention.query_a_norm, arena, low, low, shape.query_rank);
        const auto q_b = linear_args(*attention.query_b, arena, low, shape.query_rank, query, query_width);
        if (auto done = step.queue.launch({{attention.query_a->op, &q_a},
                                           {attention.query_a_norm->op, &q_norm},
                                           {attention.query_b->op, &q_b}});
            !done)
            return done;
    }

    // [c, k_rope] = W_kva h; c = norm(c); rotate k_rope and the rotary part of every query head; append; attend; project
    const auto kv_a = linear_args(attention.kv_a, arena, normed, hidden, kv, kv_width);
    auto kv_norm = norm_args(attention.kv_a_norm, arena, kv, kv, shape.kv_rank);
    kv_norm.in_stride = kv_norm.out_stride = u64(kv_width);
    const auto rope_key = rope_args(step, kv + shape.kv_rank, kv_width, shape.rope_dim);
    const auto rope_query = rope_args(step, query + shape.key_dim, query_width, shape.key_dim + shape.rope_dim);
    const auto append = append_args(step, kv_pool);
    const auto attend = attention_args(step, kv_pool, 0, attention.kv_b.as<void>());
    const auto output = linear_args(attention.output, arena, arena.attended.as<float>(), step.shape.attention_width(),
                                    arena.x.as<float>(), hidden);
    return step.queue.launch({{attention.kv_a.op, &kv_a},
                              {attention.kv_a_norm.op, &kv_norm},
                              {attention.rope_key, &rope_key},
                              {attention.rope_query, &rope_query},
                              {attention.append, &append},
                              {attention.attention, &attend},
                              {attention.output.op, &output}});
}

/// Grouped-query attention with optional norms of query and key heads. Keys and values of a row are written side by
/// side, as one token slot of the cache.
result<void> run_gqa(const step_context& step, const gqa_attention& attention, const gqa_shape& shape, void* kv_pool) {
    auto& arena = step.arena;
    const auto hidden = step.shape.hidden;
    const auto query_width = step.shape.query_width();
    const auto kv_width = step.shape.kv_width();
    const auto key_width = shape.kv_heads * shape.head_dim;
    auto* normed = arena.normed.as<float>();
    auto* query = arena.query.as<float>();
    auto* keys = arena.kv.as<float>();

    const auto q = linear_args(attention.query, arena, normed, hidden, query, query_width);
    const auto k = linear_args(attention.key, arena, normed, hidden, keys, kv_width);
    const auto v = linear_args(attention.value, arena, normed, hidden, keys + key_width, kv_width);
    if (auto done = step.queue.launch({{attention.query.op, &q}, {attention.key.op, &k}, {attention.value.op, &v}}); !done)
        return done;
    if (attention.query_norm) {
        // One vector per head, or one of all heads.
        const auto q_vectors = shape.row_norm ? 1 : shape.heads, k_vectors = shape.row_norm ? 1 : shape.kv_heads;
        const auto q_norm = head_norm_args(*attention.query_norm, arena, query, query_width, q_vectors, query_width / q_vectors);
        const auto k_norm = head_norm_args(*attention.key_norm, arena, keys, kv_width, k_vectors, key_width / k_vectors);
        if (auto done = step.queue.launch({{attention.query_norm->op, &q_norm}, {attention.key_norm->op, &k_norm}}); !done)
            return done;
    }
    const auto rope_query = rope_args(step, query, query_width, shape.head_dim);
    const auto rope_key = rope_args(step, keys, kv_width, shape.head_dim);
    const auto append = append_args(step, kv_pool);
    const auto attend = attention_args(step, kv_pool, key_width, nullptr);
    const auto output = linear_args(attention.output, arena, arena.attended.as<float>(), step.shape.attention_width(),
                                    arena.x.as<float>(), hidden);
    return step.queue.launch({{attention.rope_query, &rope_query},
                              {attention.rope_key, &rope_key},
                              {attention.append, &append},
                              {attention.attention, &attend},
                              {attention.output.op, &output}});
}

}  // namespace

moira_rmsnorm_args norm_args(const norm& weights, const step_arena& arena, const float* in, float* out,
                             std::int32_t width) {
    return {row_count(arena), 1, in, out, weights.weight.as<float>(), u64(width), u64(width), 0};
}

moira_gemm_args linear_args(const linear& weights, const step_arena& arena, const float* x, std::int32_t x_width,
                            float* out, std::int32_t out_stride) {
    return {row_count(arena),          0,   x, u64(x_width), weights.weight.as<void>(), weights.bias.as<float>(), out,
            u64(out_stride), arena.workspace.as<void>()};
}

result<void> run_attention(const step_context& step, const model_layer& layer, void* kv_pool) {
    auto& arena = step.arena;
    const auto normalize = norm_args(layer.input_norm, arena, arena.x.as<float>(), arena.normed.as<float>(), step.shape.hidden);
    if (auto done = step.queue.launch({{layer.input_norm.op, &normalize}}); !done)
        return done;
    if (const auto* mla = std::get_if<mla_attention>(&layer.attention))
        return run_mla(step, *mla, *step.shape.mla, kv_pool);
    return run_gqa(step, std::get<gqa_attention>(layer.attention), *step.shape.gqa, kv_pool);
}

}  // namespace moira
