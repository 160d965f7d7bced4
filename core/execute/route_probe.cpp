#include "core/execute/route_probe.hpp"

#include "core/execute/expert_pruning.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace moira {

route_probe::route_probe(const model_shape& shape, std::shared_ptr<route_board> board, bool audit_always,
                         const expert_pruning* pruning)
    : top_k_(static_cast<std::size_t>(shape.moe.top_k)), experts_(shape.moe.experts), board_(std::move(board)),
      audit_always_(audit_always), pruning_(pruning), absent_(static_cast<std::size_t>(shape.moe.experts), 1.0F) {
    hints_.reserve(absent_.size());
}

result<std::unique_ptr<route_probe>> route_probe::create(const model_shape& shape, const execution_limits& limits,
                                                         const op_provider& memory, std::shared_ptr<route_board> board,
                                                         bool audit_always, const expert_pruning* pruning) {
    if (shape.moe.top_k > static_cast<std::int32_t>(route_ids_max) || shape.moe.experts > 65'535)
        return fail(errc::unsupported, "experts are predicted for at most " + std::to_string(route_ids_max) +
                                           " per token, the model has " + std::to_string(shape.moe.top_k) +
                                           ": set experts.prefetch = off");
    std::unique_ptr<route_probe> made(new route_probe(shape, std::move(board), audit_always, pruning));
    const auto ids = static_cast<std::size_t>(std::min(route_rows_max, limits.rows_max)) * made->top_k_;
    for (auto* place : {&made->predictions_[0], &made->predictions_[1], &made->predictions_[2], &made->next_}) {
        auto created = made->create_prediction(memory, ids);
        if (!created)
            return tl::unexpected(created.error());
        *place = std::move(*created);
    }
    return made;
}

result<route_probe::prediction> route_probe::create_prediction(const op_provider& memory, std::size_t ids) const {
    auto buffer = device_buffer::create(memory, ids * sizeof(std::int32_t));
    if (!buffer)
        return tl::unexpected(buffer.error());
    prediction made;
    made.ids = std::move(*buffer);
    made.host.resize(ids);
    made.weights.resize(pruning_ ? ids : 0);
    return made;
}

void route_probe::begin_step(std::uint64_t number, std::int32_t rows, bool hints_wanted) {
    step_ = number;
    rows_ = rows <= route_rows_max ? static_cast<std::size_t>(rows) : 0;
    audit_ = rows_ > 0 && (audit_always_ || number % route_audit_steps == 0);
    early_wanted_ = rows_ > 0 && (hints_wanted || audit_);
    for (auto& of_source : predictions_)
        of_source.layer = -1;
    next_.layer = -1;
}

/// The layer's norm, router and choice on the residual stream as it is now. Scores and weights go to buffers that the
/// true router fills again before anybody reads them.
result<void> route_probe::evaluate(const step_context& step, const model_layer& layer, prediction& into) {
    const auto* moe = std::get_if<moe_layer>(&layer.feed_forward);
    if (!moe)
        return {};
    auto& arena = step.arena;
    const auto& shape = step.shape.moe;
    const auto normalize =
        norm_args(layer.post_attention_norm, arena, arena.x.as<float>(), arena.normed.as<float>(), step.shape.hidden);
    const auto score = linear_args(moe->router, arena, arena.normed.as<float>(), step.shape.hidden,
                                   arena.router_logits.as<float>(), shape.experts);
    const moira_router_topk_args choose{
        static_cast<std::uint32_t>(arena.rows), 0,
        arena.router_logits.as<float>(),        static_cast<std::uint64_t>(shape.experts),
        moe->choice_bias.as<float>(),           into.ids.as<std::int32_t>(),
        arena.expert_weights.as<float>()};
    if (auto done = step.queue.launch(
            {{layer.post_attention_norm.op, &normalize}, {moe->router.op, &score}, {moe->topk, &choose}});
        !done)
        return done;
    if (auto done = step.queue.download(into.host.data(), into.ids.as<void>(), rows_ * top_k_ * sizeof(std::int32_t));
        !done)
        return done;
    if (pruning_)
        if (auto done = step.queue.download(into.weights.data(), arena.expert_weights.as<void>(),
                                            rows_ * top_k_ * sizeof(float));
            !done)
            return done;
    into.settled = pruning_ == nullptr;
    into.layer = layer.index;
    return {};
}

/// What is left out of the true choice is left out of a prediction of it. The queue is idle: the prediction is here.
void route_probe::settle(prediction& arrived) const {
    const auto count = rows_ * top_k_;
    if (!std::exchange(arrived.settled, true))
        pruning_->prune_prediction(std::span(arrived.host).first(count), std::span(arrived.weights).first(count));
}

result<void> route_probe::before_attention(const step_context& step, const model_layer& layer) {
    return audit_ ? evaluate(step, layer, of(route_source::layer_input)) : result<void>();
}

result<void> route_probe::after_attention(const step_context& step, const model_layer& layer) {
    if (!early_wanted_)
        return {};
    std::swap(of(route_source::early), next_);
    next_.layer = -1;
    const auto after = static_cast<std::size_t>(layer.index) + 1;
    if (after < step.weights.layers.size())
        if (auto done = evaluate(step, step.weights.layers[after], next_); !done)
            return done;
    return audit_ ? evaluate(step, layer, of(route_source::control)) : result<void>();
}

void route_probe::routed(const model_layer& layer, std::span<const std::int32_t> ids) {
    if (!early_wanted_)
        return;
    const auto copy_row = [this](std::span<const std::int32_t> from, std::size_t row, route_observation::ids& to) {
        for (std::size_t rank = 0; rank < top_k_; ++rank)
            to[rank] = static_cast<std::uint16_t>(from[row * top_k_ + rank]);
    };
    for (auto& predicted : predictions_)
        settle(predicted);
    for (std::size_t row = 0; row < rows_; ++row) {
        route_observation seen;
        seen.step = step_;
        seen.layer = static_cast<std::uint16_t>(layer.index);
        seen.top_k = static_cast<std::uint16_t>(top_k_);
        copy_row(ids, row, seen.chosen);
        for (const auto source : {route_source::early, route_source::layer_input, route_source::control}) {
            const auto& predicted = of(source);
            if (predicted.layer != layer.index)
                continue;
            seen.mark(source);
            copy_row(predicted.host, row, seen.predicted[static_cast<std::size_t>(source)]);
        }
        if (seen.sources != 0)
            board_->ring().push(seen);
    }
}

void route_probe::give_hints(const model_layer& layer, expert_store& store) {
    if (!predicts_after(layer))
        return;
    settle(next_);
    const auto ranks = pruning_ ? static_cast<std::size_t>(pruning_->hinted_ranks()) : top_k_;
    // Rows err independently enough: an expert stays unwanted when every row that names it is wrong.
    for (std::size_t row = 0; row < rows_; ++row)
        for (std::size_t rank = 0; rank < ranks; ++rank) {
            const auto expert = next_.host[row * top_k_ + rank];
            if (expert < 0 || expert >= experts_)
                continue; // left out; and a kernel's output is not trusted to index host memory
            auto& unwanted = absent_[static_cast<std::size_t>(expert)];
            if (unwanted == 1.0F)
                hints_.push_back({expert, 0.0F});
            // A probability is below 1, so that `unwanted` is 1 only for experts that nobody named.
            unwanted *= 1.0F - board_->probability(next_.layer, static_cast<std::int32_t>(rank));
        }
    for (auto& hint : hints_)
        hint.probability = 1.0F - std::exchange(absent_[static_cast<std::size_t>(hint.expert)], 1.0F);
    std::sort(hints_.begin(), hints_.end(), [](const expert_hint& a, const expert_hint& b) {
        return a.probability > b.probability || (a.probability == b.probability && a.expert < b.expert);
    });
    store.hint(next_.layer, hints_);
    hints_.clear();
}

} // namespace moira
