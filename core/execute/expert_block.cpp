#include "core/execute/expert_block.hpp"

#include "core/execute/expert_pruning.hpp"
#include "core/execute/route_override.hpp"
#include "core/execute/route_probe.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <string>

namespace moira {

namespace {

/// The experts of a lease: resident ones first, then the others as they arrive. In which order does not matter: outputs
/// lie apart by (row, rank) and are added up in rank order later.
result<void> run_leased(const step_context& step, const model_layer& layer, const moe_layer& moe, expert_store& store,
                        const expert_assignment& assignment, expert_lease& lease, double& stall_s) {
    if (auto done = launch_experts(step, layer, moe, store, assignment, lease, lease.resident()); !done)
        return done;
    for (std::size_t left = lease.missing().size(); left > 0;) {
        const auto begin = std::chrono::steady_clock::now();
        const auto arrived = lease.wait_some();
        stall_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        if (!arrived)
            return tl::unexpected(arrived.error());
        // The group table is one buffer: the launch before must have read it.
        if (auto done = step.queue.synchronize(); !done)
            return done;
        if (auto done = launch_experts(step, layer, moe, store, assignment, lease, *arrived); !done)
            return done;
        left -= arrived->size();
    }
    return {};
}

/// Experts that nothing but these rows (ascending) asks for, ascending.
std::vector<std::int32_t> experts_of_rows(const expert_assignment& assignment, std::span<const std::int32_t> rows) {
    std::vector<std::int32_t> experts;
    if (rows.empty())
        return experts;
    const auto listed = [rows](const moira_expert_pair& pair) {
        return std::binary_search(rows.begin(), rows.end(), pair.row);
    };
    for (std::size_t i = 0; i < assignment.experts.size(); ++i)
        if (std::all_of(assignment.pairs.begin() + assignment.pair_begin[i],
                        assignment.pairs.begin() + assignment.pair_begin[i + 1], listed))
            experts.push_back(assignment.experts[i]);
    return experts;
}

/// One visit of a layer: asks for the step's experts in waves. Those that are here first, as many as fit: a wave that
/// loads must not evict what the same visit would have found. Then the absent ones, each in a wave of its own and a few
/// on their way at a time, so that those which the policy does not want to keep pass through a few slots.
class expert_visit {
public:
    expert_visit(const step_context& step, const model_layer& layer, expert_store& store,
                 const expert_assignment& assignment)
        : store_(store), layer_(layer.index), order_(store.residents_first(layer.index, assignment.experts)),
          drafted_(experts_of_rows(assignment, step.drafted_rows)),
          prompt_only_(experts_of_rows(assignment, step.prompt_rows)),
          least_(static_cast<std::size_t>(step.shape.moe.top_k)),
          wave_max_(static_cast<std::size_t>(store.wave_experts_max())),
          travelling_max_(static_cast<std::size_t>(store.travelling_max())) {
        if (step.arena.staging.needed())
            wave_max_ = std::min(wave_max_, step.arena.staging.slots());
    }

    bool over() const noexcept { return all_asked() && travelling_.empty(); }
    bool all_asked() const noexcept { return next_ == order_.experts.size(); }

    /// The next wave to compute; others have been sent for. Its predecessor's lease has ended.
    result<expert_lease> next_wave() {
        result<expert_lease> now = expert_lease();
        std::size_t absent = 0;
        if (next_ < order_.residents)
            now = acquire(std::min(order_.residents - next_, wave_max_));
        else if (absent = 1; travelling_.empty())
            now = acquire(1);
        else
            now = std::move(travelling_.front()), travelling_.pop_front();
        while (now && next_ >= order_.residents && !all_asked() && travelling_.size() + absent < travelling_max_) {
            auto sent_for = store_.try_acquire(layer_, next_experts(1), drafted_, prompt_only_, next_ > 0);
            if (!sent_for)
                return tl::unexpected(sent_for.error());
            if (!*sent_for)
                break;
            travelling_.push_back(std::move(**sent_for));
            ++next_;
        }
        return now;
    }

private:
    std::span<const std::int32_t> next_experts(std::size_t count) const {
        return std::span(order_.experts).subspan(next_, count);
    }

    /// The caller holds no other lease.
    result<expert_lease> acquire(std::size_t count) {
        auto lease = store_.acquire(layer_, next_experts(count), drafted_, prompt_only_, next_ > 0);
        // The budget may have shrunk since it was asked; every budget holds one token's experts.
        if (!lease && lease.error().code == errc::invalid_argument && count > least_) {
            count = least_;
            lease = store_.acquire(layer_, next_experts(count), drafted_, prompt_only_, next_ > 0);
        }
        if (lease)
            next_ += count;
        return lease;
    }

    expert_store& store_;
    std::int32_t layer_;
    resident_order order_;
    std::vector<std::int32_t> drafted_, prompt_only_;
    std::size_t least_, wave_max_, travelling_max_;
    std::size_t next_ = 0; // of the order: not asked for yet
    std::deque<expert_lease> travelling_;
};

/// All experts of the step, in waves. Whatever happens, the device is idle before the pins of a wave end.
result<void> run_waves(const step_context& step, const model_layer& layer, const moe_layer& moe, expert_store& store,
                       const expert_assignment& assignment, double& stall_s) {
    expert_visit visit(step, layer, store, assignment);
    bool hinted = false;
    while (!visit.over()) {
        auto lease = visit.next_wave();
        if (!lease)
            return tl::unexpected(lease.error());
        // Behind the last demand loads of this layer, so that no hint gets in front of them.
        if (step.probe && visit.all_asked() && !hinted)
            step.probe->give_hints(layer, store);
        if (step.routes && visit.all_asked() && !hinted)
            step.routes->give_hints(layer.index, store);
        hinted = visit.all_asked();
        auto done = run_leased(step, layer, moe, store, assignment, *lease, stall_s);
        auto idle = step.queue.synchronize();
        if (!done || !idle)
            return done ? idle : done;
    }
    return {};
}

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
    if (auto done = run_waves(step, layer, moe, store, assignment, stall_s); !done)
        return done;
    return combine_experts(step, moe);
}

} // namespace

result<void> launch_experts(const step_context& step, const model_layer& layer, const moe_layer& moe,
                            const expert_store& store, const expert_assignment& assignment, const expert_lease& lease,
                            std::span<const std::int32_t> experts) {
    if (experts.empty())
        return {};
    auto& arena = step.arena;
    auto& groups = arena.host_groups;
    groups.clear();
    for (const auto expert : experts) {
        const auto place = std::lower_bound(assignment.experts.begin(), assignment.experts.end(), expert);
        const auto index = static_cast<std::size_t>(place - assignment.experts.begin());
        const auto count = assignment.pair_begin[index + 1] - assignment.pair_begin[index];
        groups.push_back(
            {static_cast<std::uint32_t>(expert), lease.generation(expert), assignment.pair_begin[index], count});
    }
    if (auto done = step.queue.upload(arena.groups.as<void>(), groups.data(), groups.size() * sizeof groups.front());
        !done)
        return done;
    const auto* table = store.table(layer.index);
    if (arena.staging.needed()) {
        auto staged = arena.staging.stage(groups, table, step.queue);
        if (!staged)
            return tl::unexpected(staged.error());
        table = *staged;
    }
    moira_expert_ffn_args args{};
    args.groups = static_cast<std::uint32_t>(groups.size());
    args.pairs = static_cast<std::uint32_t>(assignment.pairs.size());
    args.x = arena.normed.as<float>();
    args.x_stride = static_cast<std::uint64_t>(step.shape.hidden);
    args.table = table;
    args.group_table = arena.groups.as<moira_expert_group>();
    args.pair_table = arena.pairs.as<moira_expert_pair>();
    args.out = arena.expert_out.as<float>();
    args.out_stride = static_cast<std::uint64_t>(step.shape.hidden);
    args.workspace = arena.workspace.as<void>();
    return step.queue.launch({{moe.experts, &args}});
}

result<expert_assignment> route_rows(const step_context& step, const model_layer& layer, const moe_layer& moe,
                                     const expert_store& store) {
    auto& arena = step.arena;
    const auto& shape = step.shape.moe;
    const auto normalize =
        norm_args(layer.post_attention_norm, arena, arena.x.as<float>(), arena.normed.as<float>(), step.shape.hidden);
    const auto score = linear_args(moe.router, arena, arena.normed.as<float>(), step.shape.hidden,
                                   arena.router_logits.as<float>(), shape.experts);
    const moira_router_topk_args choose{static_cast<std::uint32_t>(arena.rows),
                                        0,
                                        arena.router_logits.as<float>(),
                                        static_cast<std::uint64_t>(shape.experts),
                                        moe.choice_bias.as<float>(),
                                        arena.expert_ids.as<std::int32_t>(),
                                        arena.expert_weights.as<float>()};
    if (auto done = step.queue.launch(
            {{layer.post_attention_norm.op, &normalize}, {moe.router.op, &score}, {moe.topk, &choose}});
        !done)
        return tl::unexpected(done.error());
    const auto count = static_cast<std::size_t>(arena.rows) * static_cast<std::size_t>(shape.top_k);
    const auto chosen =
        step.pruning ? step.pruning->choose(step, layer.index, moe, store) : take_choice(step, layer.index, count);
    if (!chosen)
        return tl::unexpected(chosen.error());
    return assign_pairs({arena.host_expert_ids.data(), count}, shape.top_k, shape.experts, step.pruning != nullptr);
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

result<void> combine_experts(const step_context& step, const moe_layer& moe) {
    auto& arena = step.arena;
    const moira_combine_args combine{static_cast<std::uint32_t>(arena.rows),
                                     0,
                                     arena.expert_out.as<float>(),
                                     arena.expert_weights.as<float>(),
                                     moe.shared ? arena.block_out.as<float>() : nullptr,
                                     arena.x.as<float>()};
    return step.queue.launch({{moe.combine, &combine}});
}

result<expert_assignment> assign_pairs(std::span<const std::int32_t> ids, std::int32_t top_k, std::int32_t experts,
                                       bool pruned) {
    if (top_k < 1 || experts < 1 || ids.size() % static_cast<std::size_t>(top_k) != 0)
        return fail(errc::internal,
                    std::to_string(ids.size()) + " expert ids are not whole rows of " + std::to_string(top_k));
    std::vector<std::uint32_t> counts(static_cast<std::size_t>(experts) + 1, 0);
    std::size_t kept = 0;
    for (const auto id : ids) {
        if (pruned && id == no_expert)
            continue;
        if (id < 0 || id >= experts)
            return fail(errc::device_error,
                        "the router chose expert " + std::to_string(id) + " of " + std::to_string(experts));
        ++counts[static_cast<std::size_t>(id) + 1];
        ++kept;
    }
    expert_assignment made;
    for (std::int32_t expert = 0; expert < experts; ++expert) {
        const auto index = static_cast<std::size_t>(expert);
        if (counts[index + 1] > 0) {
            made.experts.push_back(expert);
            made.pair_begin.push_back(counts[index]);
        }
        counts[index + 1] += counts[index];
    }
    made.pair_begin.push_back(static_cast<std::uint32_t>(kept));
    made.pairs.resize(kept);
    for (std::size_t pair = 0; pair < ids.size(); ++pair) {
        if (ids[pair] < 0)
            continue;
        auto& next = counts[static_cast<std::size_t>(ids[pair])];
        made.pairs[next++] = {static_cast<std::int32_t>(pair / static_cast<std::size_t>(top_k)),
                              static_cast<std::int32_t>(pair)};
    }
    return made;
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
    auto assignment = route_rows(step, layer, moe, store);
    if (!assignment)
        return tl::unexpected(assignment.error());
    const std::span<const std::int32_t> ids(
        step.arena.host_expert_ids.data(),
        static_cast<std::size_t>(step.arena.rows) * static_cast<std::size_t>(step.shape.moe.top_k));
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
    auto done = run_assigned(step, layer, moe, store, *assignment, stall_s);
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
