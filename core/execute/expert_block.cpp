#include "core/execute/expert_block.hpp"

#include "core/execute/expert_pruning.hpp"
#include "core/execute/route_override.hpp"
#include "core/execute/route_probe.hpp"

#include <algorithm>

namespace moira {

namespace {

/// Behind the last demand loads of this layer, so that no hint gets in front of them.
void give_hints(const step_context& step, const model_layer& layer, expert_store& store) {
    if (step.probe)
        step.probe->give_hints(layer, store);
    if (step.routes)
        step.routes->give_hints(layer.index, store);
}

/// Experts that may be computed now. The queue is idle afterwards: the group table is one buffer, and pins end next. In
/// which order experts come does not matter: outputs lie apart by (row, rank) and are added up in rank order later.
result<void> compute_experts(const step_context& step, const model_layer& layer, const moe_layer& moe,
                             const expert_store& store, const expert_assignment& assignment,
                             std::span<const pinned_expert> experts) {
    if (experts.empty())
        return {};
    const auto done = launch_experts(step, layer, moe, store, assignment, experts);
    const auto idle = step.queue.synchronize();
    return done ? idle : done;
}

/// All experts of the step.
result<void> run_visit(const step_context& step, const model_layer& layer, const moe_layer& moe, expert_store& store,
                       const expert_assignment& assignment, double& stall_s) {
    auto& arena = step.arena;
    experts_of_rows(assignment, step.drafted_rows, arena.drafted_experts);
    experts_of_rows(assignment, step.prompt_rows, arena.prompt_experts);
    auto& visit = arena.visit->emplace(
        store, visit_wish{layer.index, assignment.experts, arena.drafted_experts, arena.prompt_experts});
    result<void> done;
    bool hinted = false, read_on = false;
    while (done && !visit.over() && !read_on) {
        const auto some = visit.next();
        if (!some) {
            // A device that fails fails every row.
            if (some.error().code != errc::device_error)
                rows_of_experts(assignment, visit.failed(), 0, arena.failed_rows);
            done = tl::unexpected(some.error());
            break;
        }
        if (visit.all_asked() && !hinted)
            give_hints(step, layer, store);
        hinted = visit.all_asked();
        // A device goes on from the last of them to the next layer, whose routing is waited for anyway.
        read_on = arena.tables.needed() && visit.all_named();
        done = read_on ? launch_experts(step, layer, moe, store, assignment, *some)
                       : compute_experts(step, layer, moe, store, assignment, *some);
    }
    stall_s += visit.stall_s();
    if (!done)
        static_cast<void>(step.queue.synchronize());
    if (!done || !read_on)
        arena.visit->reset();
    return done;
}

/// Lets the override see and change what the router chose; the ids are on the host already.
result<void> override_choice(const step_context& step, std::int32_t layer, std::span<std::int32_t> ids) {
    auto& arena = step.arena;
    std::vector<float> weights(ids.size());
    if (auto done =
            step.queue.download(weights.data(), arena.expert_weights.as<void>(), weights.size() * sizeof(float));
        !done)
        return done;
    if (auto done = step.queue.synchronize(); !done)
        return done;
    step.routes->choose(layer, ids, weights);
    if (auto done = step.queue.upload(arena.expert_weights.as<void>(), weights.data(), weights.size() * sizeof(float));
        !done)
        return done;
    return step.queue.synchronize(); // the queued copy reads `weights`
}

/// The router's choice on the host, as it is or as the override wants it.
result<void> take_choice(const step_context& step, std::int32_t layer, std::size_t count) {
    auto& arena = step.arena;
    const std::span<std::int32_t> ids(arena.host_expert_ids.data(), count);
    if (auto done = step.queue.download(ids.data(), arena.expert_ids.as<void>(), ids.size_bytes()); !done)
        return done;
    if (auto done = step.queue.synchronize(); !done)
        return done;
    return step.routes ? override_choice(step, layer, ids) : result<void>();
}

/// Shared and routed experts of all rows, added to the residual stream.
result<void> run_assigned(const step_context& step, const model_layer& layer, const moe_layer& moe, expert_store& store,
                          const expert_assignment& assignment, double& stall_s) {
    if (auto done = begin_experts(step, moe, assignment); !done)
        return done;
    if (auto done = run_visit(step, layer, moe, store, assignment, stall_s); !done)
        return done;
    return combine_experts(step, moe);
}

} // namespace

moira_expert_ffn_args every_row_args(const step_context& step, const gated_ffn& ffn) {
    auto& arena = step.arena;
    moira_expert_ffn_args args{};
    args.groups = 1;
    args.pairs = static_cast<std::uint32_t>(arena.rows);
    args.x = arena.normed.as<float>();
    args.x_stride = static_cast<std::uint64_t>(step.shape.hidden);
    args.table = ffn.entry.as<moira_expert_entry>();
    args.group_table = arena.every_row_group.as<moira_expert_group>();
    args.pair_table = arena.every_row_pairs.as<moira_expert_pair>();
    args.out = arena.block_out.as<float>();
    args.out_stride = static_cast<std::uint64_t>(step.shape.hidden);
    args.workspace = arena.workspace.as<void>();
    return args;
}

moira_expert_ffn_args routed_args(const step_context& step, const moira_expert_entry* table) {
    auto& arena = step.arena;
    moira_expert_ffn_args args{};
    args.x = arena.normed.as<float>();
    args.x_stride = static_cast<std::uint64_t>(step.shape.hidden);
    args.table = table;
    args.group_table = arena.groups.as<moira_expert_group>();
    args.pair_table = arena.pairs.as<moira_expert_pair>();
    args.out = arena.expert_out.as<float>();
    args.out_stride = static_cast<std::uint64_t>(step.shape.hidden);
    args.workspace = arena.workspace.as<void>();
    return args;
}

result<void> launch_experts(const step_context& step, const model_layer& layer, const moe_layer& moe,
                            const expert_store& store, const expert_assignment& assignment,
                            std::span<const pinned_expert> experts) {
    if (experts.empty())
        return {};
    auto& arena = step.arena;
    auto& groups = arena.host_groups;
    groups.clear();
    for (const auto& [expert, generation] : experts) {
        const auto index = assignment.find(expert);
        const auto begin = assignment.pair_begin[index];
        groups.push_back(
            {static_cast<std::uint32_t>(expert), generation, begin, assignment.pair_begin[index + 1] - begin});
    }
    if (auto done = step.queue.upload(arena.groups.as<void>(), groups.data(), groups.size() * sizeof groups.front());
        !done)
        return done;
    const auto* table = store.table(layer.index);
    if (arena.tables.needed()) {
        auto on_device = arena.tables.refresh(layer.index, store, step.queue);
        if (!on_device)
            return tl::unexpected(on_device.error());
        table = *on_device;
    }
    auto args = routed_args(step, table);
    args.groups = static_cast<std::uint32_t>(groups.size());
    args.pairs = static_cast<std::uint32_t>(assignment.pairs.size());
    return step.queue.launch({{moe.experts, &args}});
}

router_args router_args_of(const step_context& step, const model_layer& layer, const moe_layer& moe,
                           std::int32_t* ids) {
    auto& arena = step.arena;
    const auto experts = step.shape.moe.experts;
    return {
        norm_args(layer.post_attention_norm, arena, arena.x.as<float>(), arena.normed.as<float>(), step.shape.hidden),
        linear_args(moe.router, arena, arena.normed.as<float>(), step.shape.hidden, arena.router_logits.as<float>(),
                    experts),
        {static_cast<std::uint32_t>(arena.rows), 0, arena.router_logits.as<float>(),
         static_cast<std::uint64_t>(experts), moe.choice_bias.as<float>(), ids, arena.expert_weights.as<float>()}};
}

result<void> route_rows(const step_context& step, const model_layer& layer, const moe_layer& moe,
                        const expert_store& store, expert_assignment& made) {
    auto& arena = step.arena;
    const auto& shape = step.shape.moe;
    const auto args = router_args_of(step, layer, moe, arena.expert_ids.as<std::int32_t>());
    if (auto done = step.queue.launch({{layer.post_attention_norm.op, &args.normalize},
                                       {moe.router.op, &args.score},
                                       {moe.topk, &args.choose}});
        !done)
        return done;
    const auto count = static_cast<std::size_t>(arena.rows) * static_cast<std::size_t>(shape.top_k);
    const auto chosen =
        step.pruning ? step.pruning->choose(step, layer.index, moe, store) : take_choice(step, layer.index, count);
    if (!chosen)
        return chosen;
    step.arena.visit->reset(); // the choice was waited for, and all before it
    return assign_pairs({arena.host_expert_ids.data(), count}, shape.top_k, shape.experts, step.pruning != nullptr,
                        made);
}

/// Brings the gate weights to the observer.
static result<void> show_gate_weights(const step_context& step, std::int32_t layer, std::size_t count,
                                      forward_observer& observer) {
    std::vector<float> weights(count);
    if (auto done = step.queue.download(weights.data(), step.arena.expert_weights.as<void>(), count * sizeof(float));
        !done)
        return done;
    if (auto done = step.queue.synchronize(); !done)
        return done;
    observer.gate_weights(layer, weights);
    return {};
}

result<void> begin_experts(const step_context& step, const moe_layer& moe, const expert_assignment& assignment,
                           bool shared) {
    auto& arena = step.arena;
    if (auto done = step.queue.upload(arena.pairs.as<void>(), assignment.pairs.data(),
                                      assignment.pairs.size() * sizeof(moira_expert_pair));
        !done)
        return done;
    if (!moe.shared || !shared)
        return {};
    const auto args = every_row_args(step, *moe.shared);
    return step.queue.launch({{moe.shared->op, &args}});
}

moira_combine_args combine_args(const step_context& step, const moe_layer& moe) {
    auto& arena = step.arena;
    return {static_cast<std::uint32_t>(arena.rows),
            0,
            arena.expert_out.as<float>(),
            arena.expert_weights.as<float>(),
            moe.shared ? arena.block_out.as<float>() : nullptr,
            arena.x.as<float>()};
}

result<void> combine_experts(const step_context& step, const moe_layer& moe) {
    const auto combine = combine_args(step, moe);
    return step.queue.launch({{moe.combine, &combine}});
}

/// Shows the observer what the router saw, which nobody has overwritten yet.
static result<void> show_router_input(const step_context& step, std::int32_t layer, forward_observer& observer) {
    auto& arena = step.arena;
    std::vector<float> rows(static_cast<std::size_t>(arena.rows) * static_cast<std::size_t>(step.shape.hidden));
    if (auto done = step.queue.download(rows.data(), arena.normed.as<void>(), rows.size() * sizeof(float)); !done)
        return done;
    if (auto done = step.queue.synchronize(); !done)
        return done;
    observer.router_input(layer, rows);
    return {};
}

result<void> run_experts(const step_context& step, const model_layer& layer, expert_store& store,
                         forward_observer* observer, double& stall_s) {
    const auto& moe = std::get<moe_layer>(layer.feed_forward);
    auto& assignment = step.arena.assignment;
    if (auto routed = route_rows(step, layer, moe, store, assignment); !routed)
        return routed;
    const std::span<const std::int32_t> ids(step.arena.host_expert_ids.data(),
                                            static_cast<std::size_t>(step.arena.rows) *
                                                static_cast<std::size_t>(step.shape.moe.top_k));
    const auto by_router = step.pruning ? step.pruning->router_ids() : ids;
    if (observer)
        observer->routing(layer.index, by_router);
    if (observer && observer->wants_gate_weights())
        if (auto shown = show_gate_weights(step, layer.index, ids.size(), *observer); !shown)
            return shown;
    if (observer && observer->wants_router_inputs())
        if (auto done = show_router_input(step, layer.index, *observer); !done)
            return done;
    if (step.probe)
        step.probe->routed(layer, by_router, step.pruning && step.pruning->replaces() ? by_router : ids);
    auto done = run_assigned(step, layer, moe, store, assignment, stall_s);
    // Copies that are still queued read the assignment.
    if (!done)
        static_cast<void>(step.queue.synchronize());
    return done;
}

result<void> run_dense(const step_context& step, const model_layer& layer, expert_store& store) {
    auto& arena = step.arena;
    if (step.probe && step.probe->predicts_after(layer)) {
        if (auto done = step.queue.synchronize(); !done)
            return done;
        step.probe->give_hints(layer, store);
    }
    const auto& dense = std::get<dense_layer>(layer.feed_forward);
    const auto normalize =
        norm_args(layer.post_attention_norm, arena, arena.x.as<float>(), arena.normed.as<float>(), step.shape.hidden);
    const auto ffn = every_row_args(step, dense.ffn);
    const moira_combine_args combine{
        static_cast<std::uint32_t>(arena.rows), 0, nullptr, nullptr, arena.block_out.as<float>(), arena.x.as<float>()};
    return step.queue.launch(
        {{layer.post_attention_norm.op, &normalize}, {dense.ffn.op, &ffn}, {dense.combine, &combine}});
}

} // namespace moira
