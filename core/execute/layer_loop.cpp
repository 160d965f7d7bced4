#include "core/execute/layer_loop.hpp"

#include "core/execute/expert_block.hpp"
#include "core/execute/kv_type.hpp"
#include "core/execute/route_probe.hpp"

#include <algorithm>
#include <bit>

namespace moira {

result<kv_cache> kv_cache::create(const model_shape& shape, std::int32_t layers, const execution_limits& limits,
                                  const op_provider& memory) {
    kv_cache made;
    const auto bytes = static_cast<std::uint64_t>(limits.pages) * kv_page_bytes(shape, limits, 1);
    for (std::int32_t layer = 0; layer < layers; ++layer) {
        auto pool = device_buffer::create(memory, bytes);
        if (!pool)
            return tl::unexpected(pool.error());
        made.layers.push_back(std::move(*pool));
    }
    return made;
}

result<void> fill_with_noise(device_queue& queue, const device_buffer& pool, std::uint32_t kv_type) {
    // One megabyte, again and again; its two upper bytes are what BF16 keeps.
    std::vector<std::byte> block(std::size_t{1} << 20);
    const auto step = kv_type_bytes(kv_type);
    std::uint32_t state = 1;
    for (std::size_t at = 0; at < block.size(); at += step) {
        state = state * 1664525u + 1013904223u; // Knuth and Lewis; Numerical Recipes, chapter 7
        const auto value = std::bit_cast<std::uint32_t>(static_cast<float>(state >> 8) * 0x1p-23f - 1.0f);
        for (std::size_t i = 0; i < step; ++i)
            block[at + i] = static_cast<std::byte>(value >> 8 * (4 - step + i));
    }
    for (std::uint64_t at = 0; at < pool.bytes(); at += block.size())
        if (auto done = queue.upload(pool.as<std::byte>() + at, block.data(), std::min<std::uint64_t>(block.size(), pool.bytes() - at));
            !done)
            return done;
    return queue.synchronize();
}

result<void> embed(const step_context& step) {
    auto& arena = step.arena;
    const auto& weights = step.weights;
    moira_embedding_args args{static_cast<std::uint32_t>(arena.rows), 0, arena.tokens.as<std::int32_t>(),
                              weights.embedding.as<void>(), arena.x.as<float>()};
    if (weights.embedding_rows) {
        // The rows that the step needs are a table of their own.
        const auto bytes = arena.host_tokens.size() * weights.embedding_rows->row_bytes();
        if (auto done = weights.embedding_rows->read(arena.host_tokens, std::span(arena.host_embedding_rows).first(bytes)); !done)
            return done;
        if (auto done = step.queue.upload(arena.embedding_rows.as<void>(), arena.host_embedding_rows.data(), bytes); !done)
            return done;
        args.token_ids = arena.row_numbers.as<std::int32_t>();
        args.table = arena.embedding_rows.as<void>();
    }
    return step.queue.launch({{weights.embed, &args}});
}

namespace {

/// Shows the residual stream to the observer, through host memory.
result<void> show_hidden(const step_context& step, std::int32_t layer, const float* rows, forward_observer& observer) {
    std::vector<float> values(static_cast<std::size_t>(step.arena.rows) * static_cast<std::size_t>(step.shape.hidden));
    if (auto done = step.queue.download(values.data(), rows, values.size() * sizeof(float)); !done)
        return done;
    if (auto done = step.queue.synchronize(); !done)
        return done;
    observer.hidden(layer, values);
    return {};
}

result<void> show_final_hidden(const step_context& step, forward_observer& observer) {
    auto& arena = step.arena;
    const auto args = norm_args(step.weights.final_norm, arena, arena.x.as<float>(), arena.normed.as<float>(), step.shape.hidden);
    if (auto done = step.queue.launch({{step.weights.final_norm.op, &args}}); !done)
        return done;
    return show_hidden(step, step.shape.layers, arena.normed.as<float>(), observer);
}

}  // namespace

result<void> project_logits(const step_context& step, const norm& last, const float* x, std::span<const std::int32_t> rows,
                            const logits_function& on_logits) {
    auto& arena = step.arena;
    const auto hidden = static_cast<std::size_t>(step.shape.hidden);
    const auto vocabulary = static_cast<std::size_t>(step.shape.vocabulary);
    const auto block_max = arena.host_logits.size() / vocabulary;
    for (std::size_t begin = 0; begin < rows.size(); begin += block_max) {
        const auto count = std::min(block_max, rows.size() - begin);
        for (std::size_t i = 0; i < count; ++i) {
            auto args = norm_args(last, arena, x + static_cast<std::size_t>(rows[begin + i]) * hidden,
                                  arena.head_in.as<float>() + i * hidden, step.shape.hidden);
            args.rows = 1;
            if (auto done = step.queue.launch({{last.op, &args}}); !done)
                return done;
        }
        auto args = linear_args(step.weights.head, arena, arena.head_in.as<float>(), step.shape.hidden,
                                arena.logits.as<float>(), step.shape.vocabulary);
        args.rows = static_cast<std::uint32_t>(count);
        if (auto done = step.queue.launch({{step.weights.head.op, &args}}); !done)
            return done;
        if (auto done = step.queue.download(arena.host_logits.data(), arena.logits.as<void>(), count * vocabulary * sizeof(float));
            !done)
            return done;
        if (auto done = step.queue.synchronize(); !done)
            return done;
        for (std::size_t i = 0; i < count; ++i)
            on_logits(begin + i, std::span(arena.host_logits).subspan(i * vocabulary, vocabulary));
    }
    return {};
}

result<void> forward(const step_context& step, kv_cache& cache, expert_store& store,
                     std::span<const std::int32_t> sample_rows, const logits_function& on_logits,
                     forward_observer* observer, double& stall_s) {
    if (auto done = embed(step); !done)
        return done;
    for (const auto& layer : step.weights.layers) {
        if (observer)
            if (auto done = show_hidden(step, layer.index, step.arena.x.as<float>(), *observer); !done)
                return done;
        if (step.probe)
            if (auto done = step.probe->before_attention(step, layer); !done)
                return done;
        auto* kv_pool = cache.layers[static_cast<std::size_t>(layer.index)].as<void>();
        if (auto done = run_attention(step, layer, kv_pool); !done)
            return done;
        if (step.probe)
            if (auto done = step.probe->after_attention(step, layer); !done)
                return done;
        auto done = std::holds_alternative<moe_layer>(layer.feed_forward)
                        ? run_experts(step, layer, store, observer, stall_s)
                        : run_dense(step, layer, store);
        if (!done)
            return done;
    }
    if (observer)
        if (auto done = show_final_hidden(step, *observer); !done)
            return done;
    return project_logits(step, step.weights.final_norm, step.arena.x.as<float>(), sample_rows, on_logits);
}

}  // namespace moira
