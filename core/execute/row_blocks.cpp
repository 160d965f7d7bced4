#include "core/execute/expert_block.hpp"
#include "core/execute/layer_loop.hpp"

#include <algorithm>
#include <string>

namespace moira {

namespace {

/// Consecutive rows of a step.
struct row_block {
    step_plan plan;                    ///< of these rows alone, without samples
    std::vector<std::int32_t> wanted;  ///< of them, ascending: whose logits are wanted
    std::size_t sample_first = 0;      ///< of the step: the first of these
    std::vector<std::int32_t> drafted; ///< of them, ascending
    std::vector<float> states;         ///< [rows, hidden]: the residual stream between two layers
};

template <class T>
std::vector<T> slice(const std::vector<T>& all, std::int32_t first, std::int32_t count) {
    const auto begin = all.begin() + first;
    return std::vector<T>(begin, begin + count);
}

row_block cut(const step_context& step, const step_plan& plan, std::int32_t first, std::int32_t count) {
    row_block block;
    block.plan.number = plan.number;
    block.plan.tokens = slice(plan.tokens, first, count);
    block.plan.positions = slice(plan.positions, first, count);
    block.plan.slots = slice(plan.slots, first, count);
    block.plan.attention_rows = slice(plan.attention_rows, first, count);
    block.plan.page_table = plan.page_table;
    block.plan.sequences = plan.sequences;
    const auto inside = [&](std::int32_t row) { return row >= first && row < first + count; };
    for (std::size_t index = 0; index < plan.samples.size(); ++index) {
        if (!inside(plan.samples[index].row))
            continue;
        if (block.wanted.empty())
            block.sample_first = index;
        block.wanted.push_back(plan.samples[index].row - first);
    }
    for (const auto row : step.drafted_rows)
        if (inside(row))
            block.drafted.push_back(row - first);
    block.states.resize(static_cast<std::size_t>(count) * static_cast<std::size_t>(step.shape.hidden));
    return block;
}

result<void> keep_states(const step_context& step, row_block& block) {
    if (auto done =
            step.queue.download(block.states.data(), step.arena.x.as<void>(), block.states.size() * sizeof(float));
        !done)
        return done;
    return step.queue.synchronize();
}

/// The arena holds the block's plan and states afterwards.
result<void> restore(const step_context& step, const row_block& block) {
    if (auto done = step.arena.upload(block.plan, step.queue); !done)
        return done;
    if (auto done =
            step.queue.upload(step.arena.x.as<void>(), block.states.data(), block.states.size() * sizeof(float));
        !done)
        return done;
    return step.queue.synchronize();
}

result<void> pass_layer(const step_context& step, const model_layer& layer, row_block& block, float* kv_pool,
                        expert_store& store, double& stall_s) {
    if (auto done = restore(step, block); !done)
        return done;
    if (auto done = run_attention(step, layer, kv_pool); !done)
        return done;
    const bool routed = std::holds_alternative<moe_layer>(layer.feed_forward);
    if (auto done = routed ? run_experts(step, layer, store, nullptr, stall_s) : run_dense(step, layer, store); !done)
        return done;
    return keep_states(step, block);
}

} // namespace

result<void> forward_in_blocks(const step_context& step, const step_plan& plan, std::int32_t block_rows,
                               kv_cache& cache, expert_store& store, const logits_function& on_logits,
                               double& stall_s) {
    if (block_rows < 1)
        return fail(errc::invalid_argument, "blocks of " + std::to_string(block_rows) + " rows");
    if (auto fine = check_plan(plan); !fine)
        return fine;
    std::vector<row_block> blocks;
    for (std::int32_t first = 0; first < plan.rows(); first += block_rows)
        blocks.push_back(cut(step, plan, first, std::min(block_rows, plan.rows() - first)));
    const auto context_of = [&](const row_block& block) {
        step_context of_block = step;
        of_block.probe = nullptr;
        of_block.routes = nullptr;
        of_block.drafted_rows = block.drafted;
        return of_block;
    };
    for (auto& block : blocks) {
        if (auto done = step.arena.upload(block.plan, step.queue); !done)
            return done;
        if (auto done = embed(step); !done)
            return done;
        if (auto done = keep_states(step, block); !done)
            return done;
    }
    for (const auto& layer : step.weights.layers) {
        auto* kv_pool = cache.layers[static_cast<std::size_t>(layer.index)].as<float>();
        for (auto& block : blocks)
            if (auto done = pass_layer(context_of(block), layer, block, kv_pool, store, stall_s); !done)
                return done;
    }
    for (const auto& block : blocks) {
        if (block.wanted.empty())
            continue;
        if (auto done = restore(step, block); !done)
            return done;
        const auto of_step = [&](std::size_t sample, std::span<const float> logits) {
            on_logits(block.sample_first + sample, logits);
        };
        if (auto done = project_logits(step, step.weights.final_norm, step.arena.x.as<float>(), block.wanted, of_step);
            !done)
            return done;
    }
    return {};
}

} // namespace moira
