#include "core/execute/route_probe.hpp"

#include "core/route/ranked_predictor.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace moira {

namespace {

/// Computed on the host from routing alone, one layer ahead.
constexpr std::array context_sources{route_source::history, route_source::previous, route_source::prompt};

bool is_context_source(route_source source) noexcept {
    return std::find(context_sources.begin(), context_sources.end(), source) != context_sources.end();
}

/// The router's choice of `ranks` experts.
moira_router_topk_desc choice_of(const model_shape& shape, const execution_limits& limits, std::size_t ranks) {
    auto desc = op_describer(shape, limits).router_topk();
    desc.top_k = static_cast<std::uint32_t>(ranks);
    return desc;
}

} // namespace

std::int32_t probe_ranks(const model_shape& shape) noexcept {
    const auto& moe = shape.moe;
    const bool grouped = moe.groups > 1 && moe.groups_kept > 0;
    return predicted_ranks(moe.top_k, grouped ? moe.experts / moe.groups * moe.groups_kept : moe.experts);
}

route_probe::route_probe(const model_shape& shape, const execution_limits& limits, const op_selector& selector,
                         std::shared_ptr<route_board> board, const route_probe_options& options)
    : shape_(shape), page_tokens_(limits.page_tokens), top_k_(static_cast<std::size_t>(shape.moe.top_k)),
      ranks_(static_cast<std::size_t>(board->ranks())),
      rows_max_(static_cast<std::size_t>(std::min(route_rows_max, limits.rows_max))), board_(std::move(board)),
      audit_always_(options.audit_always),
      hinted_ranks_(std::min(ranks_, static_cast<std::size_t>(options.hinted_ranks_max))), ops_(selector),
      context_(shape, static_cast<std::int32_t>(rows_max_), board_->ranks(), options.history),
      absent_(static_cast<std::size_t>(shape.moe.experts), 1.0F) {
    hints_.reserve(absent_.size());
}

result<std::unique_ptr<route_probe>> route_probe::create(const model_shape& shape, const execution_limits& limits,
                                                         const op_selector& selector, device_queue& queue,
                                                         std::shared_ptr<route_board> board,
                                                         const route_probe_options& options) {
    if (shape.moe.top_k > static_cast<std::int32_t>(route_ids_max) || shape.moe.experts >= route_unknown)
        return fail(errc::unsupported, "experts are predicted for at most " + std::to_string(route_ids_max) +
                                           " per token, the model has " + std::to_string(shape.moe.top_k) +
                                           ": set experts.prefetch = off");
    std::unique_ptr<route_probe> made(new route_probe(shape, limits, selector, std::move(board), options));
    auto choose = made->ops_.prepare(choice_of(shape, limits, made->ranks_));
    if (!choose)
        return tl::unexpected(choose.error());
    made->choose_ = *choose;
    if (options.heads) {
        auto heads = route_heads::create(*options.heads, shape, limits, made->board_->ranks(), made->ops_,
                                         selector.memory_provider(), queue);
        if (!heads)
            return tl::unexpected(heads.error());
        made->heads_ = std::move(*heads);
    }
    if (auto done = made->create_buffers(selector.memory_provider()); !done)
        return tl::unexpected(done.error());
    return made;
}

result<void> route_probe::create_buffers(const op_provider& memory) {
    const auto entries = rows_max_ * ranks_;
    auto weights = device_buffer::create(memory, entries * sizeof(float));
    if (!weights)
        return tl::unexpected(weights.error());
    weights_ = std::move(*weights);
    for (const auto source : route_source_list)
        for (auto& place : predictions_[static_cast<std::size_t>(source)]) {
            place.host.resize(entries);
            if (is_context_source(source))
                continue;
            auto ids = device_buffer::create(memory, entries * sizeof(std::int32_t));
            if (!ids)
                return tl::unexpected(ids.error());
            place.ids = std::move(*ids);
        }
    return {};
}

void route_probe::begin_step(const step_plan& plan, bool hints_wanted) {
    step_ = plan.number;
    const auto rows = static_cast<std::size_t>(plan.rows());
    rows_ = rows <= rows_max_ ? rows : 0;
    audit_ = rows_ > 0 && (audit_always_ || plan.number % route_audit_steps == 0);
    hints_wanted_ = rows_ > 0 && hints_wanted;
    if (rows_ > 0)
        context_.begin_step(plan, page_tokens_);
    for (auto& of_source : predictions_)
        for (auto& of_layer : of_source)
            of_layer.layer = -1;
}

/// A norm, a linear map and a choice on the residual stream as it is now. Scores go to a buffer that the true router
/// fills again before anybody reads it.
result<void> route_probe::evaluate(const step_context& step, const scoring& how, std::int32_t layer,
                                   route_source source) {
    auto& arena = step.arena;
    auto& into = at(source, layer);
    const auto normalize =
        norm_args(*how.normalize, arena, arena.x.as<float>(), arena.normed.as<float>(), step.shape.hidden);
    const auto score = linear_args(*how.score, arena, arena.normed.as<float>(), step.shape.hidden,
                                   arena.router_logits.as<float>(), step.shape.moe.experts);
    const moira_router_topk_args choose{static_cast<std::uint32_t>(arena.rows),
                                        0,
                                        arena.router_logits.as<float>(),
                                        static_cast<std::uint64_t>(step.shape.moe.experts),
                                        how.bias,
                                        into.ids.as<std::int32_t>(),
                                        weights_.as<float>()};
    if (auto done =
            step.queue.launch({{how.normalize->op, &normalize}, {how.score->op, &score}, {how.choose, &choose}});
        !done)
        return done;
    if (auto done = step.queue.download(into.host.data(), into.ids.as<void>(), rows_ * ranks_ * sizeof(std::int32_t));
        !done)
        return done;
    into.layer = layer;
    return {};
}

result<void> route_probe::evaluate_router(const step_context& step, std::int32_t layer, route_source source) {
    if (static_cast<std::size_t>(layer) >= step.weights.layers.size())
        return {};
    const auto& of_layer = step.weights.layers[static_cast<std::size_t>(layer)];
    const auto* moe = std::get_if<moe_layer>(&of_layer.feed_forward);
    if (!moe)
        return {};
    return evaluate(step, {&of_layer.post_attention_norm, &moe->router, choose_, moe->choice_bias.as<float>()}, layer,
                    source);
}

bool route_probe::has_head(std::int32_t from, std::int32_t ahead) const noexcept {
    return heads_ && heads_->find(from, ahead) != nullptr;
}

/// Heads read what the router of their own layer reads.
result<void> route_probe::evaluate_head(const step_context& step, const model_layer& from, std::int32_t ahead) {
    const auto source = ahead == 1 ? route_source::heads : route_source::heads2;
    return evaluate(step, {&from.post_attention_norm, heads_->find(from.index, ahead), heads_->choose(), nullptr},
                    from.index + ahead, source);
}

result<void> route_probe::before_attention(const step_context& step, const model_layer& layer) {
    return audit_ ? evaluate_router(step, layer.index, route_source::layer_input) : result<void>();
}

result<void> route_probe::after_attention(const step_context& step, const model_layer& layer) {
    if (rows_ == 0)
        return {};
    const auto next = layer.index + 1;
    const bool hints_by_heads = hints_wanted_ && board_->hints() == route_source::heads;
    result<void> done;
    // Where no head was trained the router speaks.
    if (wanted(route_source::early) || (hints_by_heads && !has_head(layer.index, 1)))
        done = evaluate_router(step, next, route_source::early);
    if (done && audit_)
        done = evaluate_router(step, next + 1, route_source::gate2);
    if (done && has_head(layer.index, 1) && wanted(route_source::heads))
        done = evaluate_head(step, layer, 1);
    if (done && has_head(layer.index, 2) && audit_)
        done = evaluate_head(step, layer, 2);
    if (done && audit_)
        done = evaluate_router(step, layer.index, route_source::control);
    return done;
}

void route_probe::copy_prediction(const prediction& predicted, std::size_t row, route_source source,
                                  route_observation& seen) const {
    const auto from = std::span(predicted.host).subspan(row * ranks_, ranks_);
    if (from.front() < 0)
        return; // nothing was known of this row
    seen.mark(source);
    auto& to = seen.predicted[static_cast<std::size_t>(source)];
    std::transform(from.begin(), from.end(), to.begin(),
                   [](std::int32_t id) { return static_cast<std::uint16_t>(id); });
}

void route_probe::push_observations(std::int32_t layer, std::span<const std::int32_t> ids,
                                    std::span<const std::int32_t> ran) {
    for (std::size_t row = 0; row < rows_; ++row) {
        route_observation seen;
        seen.step = step_;
        seen.layer = static_cast<std::uint16_t>(layer);
        seen.top_k = static_cast<std::uint16_t>(top_k_);
        const auto of_row = ran.subspan(row * top_k_, top_k_);
        seen.left_out = static_cast<std::uint16_t>(
            std::count_if(of_row.begin(), of_row.end(), [](std::int32_t expert) { return expert < 0; }));
        seen.ranks = static_cast<std::uint16_t>(ranks_);
        seen.slot = context_.slot(row);
        seen.previous_slot = context_.previous_slot(row);
        for (std::size_t rank = 0; rank < top_k_; ++rank)
            seen.chosen[rank] = static_cast<std::uint16_t>(ids[row * top_k_ + rank]);
        for (const auto source : route_source_list)
            if (at(source, layer).layer == layer)
                copy_prediction(at(source, layer), row, source, seen);
        if (seen.sources != 0 || board_->teaches())
            board_->ring().push(seen);
    }
}

void route_probe::routed(const model_layer& layer, std::span<const std::int32_t> ids,
                         std::span<const std::int32_t> ran) {
    if (rows_ == 0)
        return;
    push_observations(layer.index, ids, ran);
    context_.routed(layer.index, ids);
    const auto next = layer.index + 1;
    for (const auto source : context_sources) {
        if (!wanted(source) || (source == route_source::history && !context_.has_history()))
            continue;
        auto& into = at(source, next);
        into.layer = context_.predict(source, next, std::span(into.host).first(rows_ * ranks_)) ? next : -1;
    }
}

route_probe::prediction* route_probe::prediction_for_hints(std::int32_t layer) noexcept {
    if (rows_ == 0 || !hints_wanted_)
        return nullptr;
    for (const auto source : {board_->hints(), route_source::early})
        if (auto& predicted = at(source, layer); predicted.layer == layer)
            return &predicted;
    return nullptr;
}

void route_probe::give_hints(const model_layer& layer, expert_store& store) {
    const auto* next = prediction_for_hints(layer.index + 1);
    if (!next)
        return;
    // Rows err independently enough: an expert stays unwanted when every row that names it is wrong.
    for (std::size_t row = 0; row < rows_; ++row)
        for (std::size_t rank = 0; rank < hinted_ranks_; ++rank) {
            const auto expert = next->host[row * ranks_ + rank];
            if (expert < 0 || expert >= shape_.moe.experts)
                continue; // a kernel's output is not trusted to index host memory
            auto& unwanted = absent_[static_cast<std::size_t>(expert)];
            if (unwanted == 1.0F)
                hints_.push_back({expert, 0.0F});
            // A probability is below 1, so that `unwanted` is 1 only for experts that nobody named.
            unwanted *= 1.0F - board_->probability(next->layer, static_cast<std::int32_t>(rank));
        }
    for (auto& hint : hints_)
        hint.probability = 1.0F - std::exchange(absent_[static_cast<std::size_t>(hint.expert)], 1.0F);
    std::sort(hints_.begin(), hints_.end(), [](const expert_hint& a, const expert_hint& b) {
        return a.probability > b.probability || (a.probability == b.probability && a.expert < b.expert);
    });
    store.hint(next->layer, hints_);
    hints_.clear();
}

} // namespace moira
