#include "core/execute/expert_block.hpp"
#include "core/execute/layer_loop.hpp"
#include "core/execute/route_probe.hpp"

#include <algorithm>
#include <chrono>
#include <string>

namespace moira {

namespace {

/// Consecutive rows of a step.
struct row_block {
    step_plan plan;                        ///< of these rows alone, without samples
    std::int32_t first = 0;                ///< of them: its number in the step
    std::vector<std::int32_t> wanted;      ///< of them, ascending: whose logits are wanted
    std::size_t sample_first = 0;          ///< of the step: the first of these
    std::vector<std::int32_t> drafted;     ///< of them, ascending
    std::vector<float> states;             ///< [rows, hidden]: the residual stream between two layers
    expert_assignment assignment;          ///< of the layer at hand
    std::vector<float> gate_weights;       ///< [rows, top_k], of the layer at hand
    std::vector<std::uint32_t> kept_pairs; ///< whose outputs wait for those of later waves
    std::vector<float> kept;               ///< [kept_pairs, hidden]
};

template <class T>
std::vector<T> slice(const std::vector<T>& all, std::int32_t first, std::int32_t count) {
    const auto begin = all.begin() + first;
    return std::vector<T>(begin, begin + count);
}

row_block cut(const step_context& step, const step_plan& plan, std::int32_t first, std::int32_t count) {
    row_block block;
    block.first = first;
    block.plan.number = plan.number;
    block.plan.tokens = slice(plan.tokens, first, count);
    if (!plan.requests.empty())
        block.plan.requests = slice(plan.requests, first, count);
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
    block.gate_weights.resize(static_cast<std::size_t>(count) * static_cast<std::size_t>(step.shape.moe.top_k));
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

/// Routes the block, whose states are in the arena, and keeps the choice: whoever chooses does so, and counts it, once
/// per row, however many waves the experts take.
result<void> route(const step_context& step, const model_layer& layer, const moe_layer& moe, const expert_store& store,
                   row_block& block) {
    if (auto done = route_rows(step, layer, moe, store, block.assignment); !done)
        return done;
    auto& weights = block.gate_weights;
    if (auto done =
            step.queue.download(weights.data(), step.arena.expert_weights.as<void>(), weights.size() * sizeof(float));
        !done)
        return done;
    return step.queue.synchronize();
}

/// The arena holds the block as route() left it.
result<void> restore_routed(const step_context& step, const model_layer& layer, const row_block& block) {
    if (auto done = restore(step, block); !done)
        return done;
    auto& arena = step.arena;
    if (auto done = step.queue.upload(arena.expert_weights.as<void>(), block.gate_weights.data(),
                                      block.gate_weights.size() * sizeof(float));
        !done)
        return done;
    const auto& before = layer.post_attention_norm;
    const auto args = norm_args(before, arena, arena.x.as<float>(), arena.normed.as<float>(), step.shape.hidden);
    return step.queue.launch({{before.op, &args}});
}

/// The experts of a layer that all blocks together want, and how far they have come.
struct layer_waves {
    const model_layer& layer;
    const moe_layer& moe;
    expert_store& store;
    std::vector<std::int32_t> order;     ///< residents first
    std::vector<std::int32_t> ascending; ///< the same
    std::size_t next = 0;
};

/// Pins the next wave. All but the last are as small as can be, since what they compute must be kept for so long.
result<expert_lease> acquire_next(layer_waves& waves, std::size_t top_k) {
    const auto left = std::span(waves.order).subspan(waves.next);
    const auto slots = static_cast<std::size_t>(waves.store.wave_experts_max());
    const auto count = left.size() <= slots ? left.size() : std::min(left.size() - slots, slots);
    auto lease = waves.store.acquire(waves.layer.index, left.first(count), {}, waves.ascending, waves.next > 0);
    // The budget may have shrunk since it was asked; every budget holds one token's experts.
    if (!lease && lease.error().code == errc::invalid_argument && count > top_k)
        lease = waves.store.acquire(waves.layer.index, left.first(top_k), {}, waves.ascending, waves.next > 0);
    return lease;
}

/// Launches those of `experts` that the block wants.
result<void> launch_wanted(const step_context& step, const layer_waves& waves, const row_block& block,
                           const expert_lease& lease, std::span<const std::int32_t> experts) {
    std::vector<pinned_expert> wanted;
    for (const auto expert : experts)
        if (block.assignment.find(expert) < block.assignment.experts.size())
            wanted.push_back({expert, lease.generation(expert)});
    if (auto done = launch_experts(step, waves.layer, waves.moe, waves.store, block.assignment, wanted); !done)
        return done;
    return step.queue.synchronize(); // the next launch writes the same table of groups
}

/// The wave's experts for one block; the first block takes them as they arrive.
result<void> compute_wave(const step_context& step, const layer_waves& waves, const row_block& block,
                          expert_lease& lease, double& stall_s) {
    if (auto done = launch_wanted(step, waves, block, lease, lease.resident()); !done)
        return done;
    for (std::size_t left = lease.missing().size(); left > 0;) {
        const auto begin = std::chrono::steady_clock::now();
        const auto arrived = lease.wait_some();
        stall_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        if (!arrived)
            return tl::unexpected(arrived.error());
        // None: an earlier block has seen them all.
        if (auto done = launch_wanted(step, waves, block, lease, arrived->empty() ? lease.missing() : *arrived); !done)
            return done;
        left -= arrived->empty() ? left : arrived->size();
    }
    return {};
}

/// What the wave has computed for the block, before another block takes its place in the arena.
result<void> keep_outputs(const step_context& step, row_block& block, std::span<const std::int32_t> experts) {
    const auto hidden = static_cast<std::size_t>(step.shape.hidden);
    const auto& made = block.assignment;
    const auto first = block.kept_pairs.size();
    for (const auto expert : experts) {
        const auto index = made.find(expert);
        if (index == made.experts.size())
            continue;
        for (const auto& pair : made.pairs_of(index))
            block.kept_pairs.push_back(static_cast<std::uint32_t>(pair.out_row));
    }
    block.kept.resize(block.kept_pairs.size() * hidden);
    for (std::size_t kept = first; kept < block.kept_pairs.size(); ++kept)
        if (auto done = step.queue.download(block.kept.data() + kept * hidden,
                                            step.arena.expert_out.as<float>() + block.kept_pairs[kept] * hidden,
                                            hidden * sizeof(float));
            !done)
            return done;
    return step.queue.synchronize();
}

/// Adds the outputs of all waves, the last of which lies in the arena.
result<void> finish_experts(const step_context& step, const layer_waves& waves, row_block& block) {
    const auto hidden = static_cast<std::size_t>(step.shape.hidden);
    for (std::size_t kept = 0; kept < block.kept_pairs.size(); ++kept)
        if (auto done = step.queue.upload(step.arena.expert_out.as<float>() + block.kept_pairs[kept] * hidden,
                                          block.kept.data() + kept * hidden, hidden * sizeof(float));
            !done)
            return done;
    if (auto done = combine_experts(step, waves.moe); !done)
        return done;
    if (auto done = keep_states(step, block); !done)
        return done;
    block.kept_pairs.clear();
    block.kept.clear();
    return {};
}

result<void> run_wave(const step_context& step, layer_waves& waves, std::span<row_block> blocks, double& stall_s) {
    auto lease = acquire_next(waves, static_cast<std::size_t>(step.shape.moe.top_k));
    if (!lease)
        return tl::unexpected(lease.error());
    waves.next += lease->experts().size();
    const bool last = waves.next == waves.order.size();
    for (auto& block : blocks) {
        auto done = restore_routed(step, waves.layer, block);
        if (done)
            done = begin_experts(step, waves.moe, block.assignment, last);
        if (done)
            done = compute_wave(step, waves, block, *lease, stall_s);
        if (done)
            done = last ? finish_experts(step, waves, block) : keep_outputs(step, block, lease->experts());
        // Whatever happens, the device is idle before the pins of the wave end.
        auto idle = step.queue.synchronize();
        if (const auto failed = lease->failed(); failed && !done && done.error().code != errc::device_error)
            for (const auto& wanting : blocks)
                rows_of_experts(wanting.assignment, {&*failed, 1}, wanting.first, step.arena.failed_rows);
        if (!done || !idle)
            return done ? idle : done;
    }
    return {};
}

/// The experts of a layer for all blocks, each read once: waves outside, blocks inside. The blocks hold the states that
/// the router sees.
result<void> pass_experts(const step_context& step, const model_layer& layer, const moe_layer& moe,
                          std::span<row_block> blocks, expert_store& store, double& stall_s) {
    std::vector<bool> wanted(static_cast<std::size_t>(step.shape.moe.experts));
    for (const auto& block : blocks)
        for (const auto expert : block.assignment.experts)
            wanted[static_cast<std::size_t>(expert)] = true;
    layer_waves waves{layer, moe, store, {}, {}, 0};
    for (std::size_t expert = 0; expert < wanted.size(); ++expert)
        if (wanted[expert])
            waves.ascending.push_back(static_cast<std::int32_t>(expert));
    waves.order = store.residents_first(layer.index, waves.ascending);
    while (waves.next < waves.order.size())
        if (auto done = run_wave(step, waves, blocks, stall_s); !done)
            return done;
    return {};
}

/// What the router has chosen last, on the host, [rows, top_k].
std::span<const std::int32_t> chosen_ids(const step_context& step, std::int32_t rows) {
    return std::span(step.arena.host_expert_ids)
        .first(static_cast<std::size_t>(rows) * static_cast<std::size_t>(step.shape.moe.top_k));
}

/// Attention of a block, and all that follows in a layer without experts; otherwise which experts its rows want.
result<void> begin_layer(const step_context& step, const model_layer& layer, row_block& block, float* kv_pool,
                         expert_store& store) {
    if (auto done = restore(step, block); !done)
        return done;
    if (auto done = run_attention(step, layer, kv_pool); !done)
        return done;
    const auto* moe = std::get_if<moe_layer>(&layer.feed_forward);
    if (!moe)
        if (auto done = run_dense(step, layer, store); !done)
            return done;
    if (auto done = keep_states(step, block); !done || !moe)
        return done;
    return route(step, layer, *moe, store, block);
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
        of_block.prompt_rows = {}; // of the whole step, not of the block
        return of_block;
    };
    step_context plain = step;
    plain.probe = nullptr;
    plain.routes = nullptr;
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
        const auto* moe = std::get_if<moe_layer>(&layer.feed_forward);
        for (auto& block : blocks) {
            if (auto done = begin_layer(context_of(block), layer, block, kv_pool, store); !done)
                return done;
            // Too many rows to predict, and a prompt that says much about what its answer will want.
            if (moe && step.probe)
                step.probe->prompt_routed(layer, block.plan, chosen_ids(step, block.plan.rows()));
        }
        if (!moe)
            continue;
        if (auto done = pass_experts(plain, layer, *moe, blocks, store, stall_s); !done)
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
