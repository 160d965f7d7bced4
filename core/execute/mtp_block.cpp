#include "core/execute/mtp_block.hpp"

#include "core/execute/expert_block.hpp"
#include "core/execute/layer_loop.hpp"

namespace moira {

result<void> keep_final_hidden(const step_context& step, std::span<const row_run> runs) {
    auto& arena = step.arena;
    const auto hidden = static_cast<std::size_t>(step.shape.hidden);
    std::size_t kept = 0;
    for (const auto& [first, count] : runs) {
        auto args =
            norm_args(step.weights.final_norm, arena, arena.x.as<float>() + static_cast<std::size_t>(first) * hidden,
                      arena.mtp_hidden.as<float>() + kept * hidden, step.shape.hidden);
        args.rows = static_cast<std::uint32_t>(count);
        if (auto done = step.queue.launch({{step.weights.final_norm.op, &args}}); !done)
            return done;
        kept += static_cast<std::size_t>(count);
    }
    return {};
}

/// x = W [norm(embedding of the next token); norm(hidden state)], then an ordinary decoder block.
result<void> run_mtp(const step_context& step, const mtp_module& module, void* kv_pool, expert_store& store,
                     double& stall_s) {
    auto& arena = step.arena;
    const auto hidden = step.shape.hidden;
    auto* x = arena.x.as<float>();
    auto* pair = arena.mtp_input.as<float>();

    if (auto done = embed(step); !done)
        return done;
    auto embedding_norm = norm_args(module.embedding_norm, arena, x, pair, hidden);
    auto hidden_norm = norm_args(module.hidden_norm, arena, arena.mtp_hidden.as<float>(), pair + hidden, hidden);
    embedding_norm.out_stride = hidden_norm.out_stride = 2 * static_cast<std::uint64_t>(hidden);
    const auto project = linear_args(module.projection, arena, pair, 2 * hidden, x, hidden);
    if (auto done = step.queue.launch({{module.embedding_norm.op, &embedding_norm},
                                       {module.hidden_norm.op, &hidden_norm},
                                       {module.projection.op, &project}});
        !done)
        return done;
    if (auto done = run_attention(step, module.block, kv_pool); !done)
        return done;
    return run_experts(step, module.block, store, nullptr, stall_s);
}

} // namespace moira
