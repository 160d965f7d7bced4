#include "core/execute/resident_step.hpp"

#include "core/execute/expert_block.hpp"
#include "core/execute/route_probe.hpp"

#include <algorithm>
#include <array>

namespace moira {

namespace {

/// A graph's launches are told how long the page table may be, not how long it is: no row may reach past the plan's.
bool inside_page_table(const step_plan& plan, std::int32_t page_tokens) {
    const auto entries = static_cast<std::int64_t>(plan.page_table.size());
    return std::all_of(plan.attention_rows.begin(), plan.attention_rows.end(), [&](const moira_attention_row& row) {
        const auto pages = (std::int64_t{row.context_length} + page_tokens - 1) / page_tokens;
        return row.page_table_offset >= 0 && row.context_length >= 0 && row.page_table_offset + pages <= entries;
    });
}

std::size_t pairs_of_step(const step_context& step) {
    return static_cast<std::size_t>(step.arena.rows) * static_cast<std::size_t>(step.shape.moe.top_k);
}

} // namespace

result<std::optional<resident_step>> resident_step::create(const model_shape& shape, const execution_limits& limits,
                                                           op_set& ops, const op_provider& memory) {
    auto op = ops.prepare(op_describer(shape, limits).expert_groups());
    if (!op && op.error().code == errc::op_missing)
        return std::optional<resident_step>();
    if (!op)
        return tl::unexpected(op.error());
    resident_step made;
    made.sort_pairs_ = *op;
    made.page_tokens_ = limits.page_tokens;
    for (std::int32_t layer = 0; layer < shape.layers; ++layer)
        if (shape.layer_is_moe[static_cast<std::size_t>(layer)])
            made.moe_layers_.push_back(layer);
    made.host_ids_.resize(made.moe_layers_.size() * static_cast<std::size_t>(limits.rows_max) *
                          static_cast<std::size_t>(shape.moe.top_k));
    made.seen_.resize(static_cast<std::size_t>(graph_rows_max) + 1);
    auto ids = device_buffer::create(memory, made.host_ids_.size() * sizeof(std::int32_t));
    if (!ids)
        return tl::unexpected(ids.error());
    auto count = device_buffer::create(memory, sizeof(std::uint32_t));
    if (!count)
        return tl::unexpected(count.error());
    made.ids_ = std::move(*ids);
    made.group_count_ = std::move(*count);
    return std::optional(std::move(made));
}

std::optional<residency_hold> resident_step::hold(const step_context& step, const step_plan& plan, expert_store& store,
                                                  const forward_observer* observer) const {
    const bool watched =
        observer || step.pruning || step.routes || step.queue.watched() || (step.probe && step.probe->predicts());
    if (watched || !inside_page_table(plan, page_tokens_))
        return std::nullopt;
    return store.hold_residents();
}

/// Where kernels read tables of their own: brings what has changed since they were last brought up to date.
result<void> resident_step::refresh_tables(const step_context& step, const expert_store& store, std::uint64_t version) {
    auto& tables = step.arena.tables;
    if (!tables.needed() || tables_version_ == version)
        return {};
    for (const auto layer : moe_layers_)
        if (auto done = tables.refresh(layer, store, step.queue); !done)
            return tl::unexpected(done.error());
    tables_version_ = version;
    return {};
}

std::span<std::int32_t> resident_step::ids_of(const step_context& step, std::size_t ordinal) {
    return std::span(host_ids_).subspan(ordinal * pairs_of_step(step), pairs_of_step(step));
}

/// x += experts(norm(x)) + shared(norm(x)), with the ids left at `ids`.
result<void> resident_step::run_moe(const step_context& step, const model_layer& layer,
                                    const moira_expert_entry* entries, std::int32_t* ids) {
    const auto& moe = std::get<moe_layer>(layer.feed_forward);
    auto& arena = step.arena;
    const auto pairs = static_cast<std::uint32_t>(pairs_of_step(step));
    const auto router = router_args_of(step, layer, moe, ids);
    const moira_expert_groups_args sort{static_cast<std::uint32_t>(arena.rows),
                                        sizeof(moira_expert_entry) / sizeof(std::uint32_t),
                                        ids,
                                        &entries->generation,
                                        arena.groups.as<moira_expert_group>(),
                                        arena.pairs.as<moira_expert_pair>(),
                                        group_count_.as<std::uint32_t>(),
                                        arena.workspace.as<void>()};
    auto experts = routed_args(step, entries);
    experts.groups = std::min(static_cast<std::uint32_t>(step.shape.moe.experts), pairs);
    experts.pairs = pairs;
    experts.group_count = group_count_.as<std::uint32_t>();
    const auto combine = combine_args(step, moe);
    moira_expert_ffn_args shared{};
    std::array<bound_launch, 7> list{};
    std::size_t count = 0;
    list[count++] = {layer.post_attention_norm.op, &router.normalize};
    list[count++] = {moe.router.op, &router.score};
    list[count++] = {moe.topk, &router.choose};
    if (moe.shared) {
        shared = every_row_args(step, *moe.shared);
        list[count++] = {moe.shared->op, &shared};
    }
    list[count++] = {sort_pairs_, &sort};
    list[count++] = {moe.experts, &experts};
    list[count++] = {moe.combine, &combine};
    return step.queue.launch(list.data(), count);
}

result<void> resident_step::run_layers(const step_context& step, kv_cache& cache, expert_store& store) {
    auto* ids = ids_.as<std::int32_t>();
    for (const auto& layer : step.weights.layers) {
        auto* kv_pool = cache.layers[static_cast<std::size_t>(layer.index)].as<void>();
        if (auto done = run_attention(step, layer, kv_pool); !done)
            return done;
        const bool moe = std::holds_alternative<moe_layer>(layer.feed_forward);
        const auto* entries =
            step.arena.tables.needed() ? step.arena.tables.table(layer.index) : store.table(layer.index);
        auto done = moe ? run_moe(step, layer, entries, ids) : run_dense(step, layer, store);
        if (!done)
            return done;
        if (moe)
            ids += pairs_of_step(step);
    }
    return {};
}

/// False: there are no graphs, or not of this.
result<bool> resident_step::record(const step_context& step, kv_cache& cache, expert_store& store) {
    if (auto begun = step.queue.begin_graph(); !begun) {
        if (begun.error().code == errc::unsupported)
            return false;
        return tl::unexpected(begun.error());
    }
    const auto launched = run_layers(step, cache, store);
    auto graph = step.queue.end_graph();
    if (!launched || !graph)
        return false; // what is really wrong shows when it is launched op by op
    recorded_.push_front({step.arena.rows, std::move(*graph)});
    if (recorded_.size() > graphs_max) {
        recorded_.pop_back();
        ++counts_.graphs_dropped;
    }
    return true;
}

result<void> resident_step::run_or_replay(const step_context& step, kv_cache& cache, expert_store& store) {
    const auto rows = step.arena.rows;
    if (!graphs_ || rows > graph_rows_max) {
        ++counts_.plain;
        return run_layers(step, cache, store);
    }
    const auto known = std::find_if(recorded_.begin(), recorded_.end(),
                                    [rows](const recorded_rows& each) { return each.rows == rows; });
    if (known != recorded_.end()) {
        recorded_.splice(recorded_.begin(), recorded_, known);
        ++counts_.replayed;
        return step.queue.launch(recorded_.front().graph);
    }
    // Once op by op: what a plugin sets up on first use is no part of a graph, and a size that comes once is not worth
    // one.
    const auto index = static_cast<std::size_t>(rows);
    if (seen_[index]) {
        auto recorded = record(step, cache, store);
        if (!recorded)
            return tl::unexpected(recorded.error());
        graphs_ = *recorded;
        if (graphs_) {
            ++counts_.recorded;
            return step.queue.launch(recorded_.front().graph);
        }
    }
    seen_[index] = true;
    ++counts_.plain;
    return run_layers(step, cache, store);
}

/// What layer by layer would have been told while the step ran: the store what was used, and the probe what was chosen.
result<void> resident_step::tell_routes(const step_context& step, expert_store& store) {
    auto& arena = step.arena;
    for (std::size_t ordinal = 0; ordinal < moe_layers_.size(); ++ordinal) {
        const auto layer = moe_layers_[ordinal];
        const auto ids = ids_of(step, ordinal);
        auto& made = arena.assignment;
        if (auto done = assign_pairs(ids, step.shape.moe.top_k, step.shape.moe.experts, false, made); !done)
            return done;
        if (step.probe)
            step.probe->routed(step.weights.layers[static_cast<std::size_t>(layer)], ids, ids);
        experts_of_rows(made, step.drafted_rows, arena.drafted_experts);
        experts_of_rows(made, step.prompt_rows, arena.prompt_experts);
        expert_visit visit(store, {layer, made.experts, arena.drafted_experts, arena.prompt_experts});
        while (!visit.over())
            if (const auto some = visit.next(); !some)
                return tl::unexpected(some.error());
    }
    return {};
}

result<void> resident_step::forward(const step_context& step, kv_cache& cache, expert_store& store,
                                    const residency_hold& held, std::span<const std::int32_t> sample_rows,
                                    const logits_function& on_logits) {
    auto done = refresh_tables(step, store, held.table_version());
    if (done)
        done = run(step, cache, store, sample_rows, on_logits);
    // Whatever happened, kernels are done with the experts before the hold ends.
    if (!done)
        static_cast<void>(step.queue.synchronize());
    return done;
}

result<void> resident_step::run(const step_context& step, kv_cache& cache, expert_store& store,
                                std::span<const std::int32_t> sample_rows, const logits_function& on_logits) {
    auto& arena = step.arena;
    auto quiet = step; // nobody looks on between layers
    quiet.probe = nullptr;
    if (auto done = embed(step); !done)
        return done;
    // Launches that are recorded must hold for every later plan.
    arena.page_table_entries = static_cast<std::int32_t>(arena.page_table.bytes() / sizeof(std::int32_t));
    if (auto done = run_or_replay(quiet, cache, store); !done)
        return done;
    const auto ids = std::span(host_ids_).first(moe_layers_.size() * pairs_of_step(step));
    if (auto done = step.queue.download(ids.data(), ids_.as<void>(), ids.size_bytes()); !done)
        return done;
    if (auto done = project_logits(step, step.weights.final_norm, arena.x.as<float>(), sample_rows, on_logits); !done)
        return done;
    if (sample_rows.empty())
        if (auto done = step.queue.synchronize(); !done)
            return done;
    return tell_routes(step, store);
}

} // namespace moira
