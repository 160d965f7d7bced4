#include "core/execute/route_probe.hpp"

#include "core/route/ranked_predictor.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace moira {

namespace {

/// Computed on the host from routing alone.
constexpr std::array context_sources{route_source::history, route_source::previous, route_source::prompt,
                                     route_source::history2, route_source::drafted};

/// Sources look one layer ahead, or two.
constexpr std::size_t probe_visits_max = 2;
static_assert(probe_visits_max <= hint_visits_max);

bool is_context_source(route_source source) noexcept {
    return std::find(context_sources.begin(), context_sources.end(), source) != context_sources.end();
}

/// The same source two layers ahead; itself where the distance makes no difference.
constexpr route_source two_ahead(route_source source) noexcept {
    switch (source) {
    case route_source::early:
        return route_source::gate2;
    case route_source::heads:
        return route_source::heads2;
    case route_source::history:
        return route_source::history2;
    default:
        return source;
    }
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
    : shape_(shape), layers_(shape.layer_is_moe), page_tokens_(limits.page_tokens),
      top_k_(static_cast<std::size_t>(shape.moe.top_k)), ranks_(static_cast<std::size_t>(board->ranks())),
      rows_max_(static_cast<std::size_t>(std::min(route_rows_max, limits.rows_max))), board_(std::move(board)),
      audit_always_(options.audit_always),
      hinted_ranks_(std::min(ranks_, static_cast<std::size_t>(options.hinted_ranks_max))), ops_(selector),
      context_(shape, static_cast<std::int32_t>(rows_max_), board_->ranks(), options.history),
      of_rows_(static_cast<std::uint32_t>(shape.moe.experts)), next_ids_(ranks_) {
    for (std::int32_t layer = 0; layer < shape.layers; ++layer)
        if (layers_.ordinal(layer) >= 0)
            of_ordinal_.push_back(layer);
    of_row_.reserve(ranks_);
    hints_.reserve(static_cast<std::size_t>(shape.moe.experts));
    last_rows_.reserve(rows_max_);
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

void route_probe::begin_step(const step_plan& plan, std::size_t hint_visits) {
    step_ = plan.number;
    const auto rows = static_cast<std::size_t>(plan.rows());
    rows_ = rows <= rows_max_ ? rows : 0;
    audit_ = rows_ > 0 && (audit_always_ || plan.number % route_audit_steps == 0);
    hint_visits_ = rows_ > 0 ? std::min(hint_visits, probe_visits_max) : 0;
    for (auto& of_source : predictions_)
        for (auto& of_layer : of_source)
            of_layer.ordinal = -1;
    context_.begin_step(plan, page_tokens_, rows_ > 0);
    find_last_rows(plan);
    predict_by_context(0);
}

/// A sequence goes on behind exactly one of its rows that are sampled: behind its last true one, or one of its drafts.
void route_probe::find_last_rows(const step_plan& plan) {
    last_rows_.clear();
    // Where the model drafts, its own layer is visited before the next step's.
    if (hint_visits_ == 0 || !plan.draft_requests.empty())
        return;
    for (auto first = plan.samples.begin(); first != plan.samples.end();) {
        const auto end =
            std::find_if(first + 1, plan.samples.end(), [](const sample_request& each) { return !each.follows_draft; });
        for (const float weight = 1.0F / static_cast<float>(end - first); first != end; ++first)
            last_rows_.push_back({static_cast<std::size_t>(first->row), weight});
    }
}

/// Whether hints are made of `source`, or of it where the chosen one says nothing.
bool route_probe::hinted(route_source source) const noexcept {
    const auto chosen = board_->hints();
    if (hint_visits_ > 0 && source == chosen)
        return true;
    // What a draft chose is for the first layers, which no router predicts.
    const bool by_router = chosen == route_source::early || chosen == route_source::drafted;
    if (source == route_source::early)
        return hint_visits_ > 0 && by_router;
    if (source == route_source::gate2)
        return hint_visits_ > 1 && by_router;
    return hint_visits_ > 1 && source == two_ahead(chosen);
}

/// A norm, a linear map and a choice on the residual stream as it is now. Scores go to a buffer that the true router
/// fills again before anybody reads it.
result<void> route_probe::evaluate(const step_context& step, const scoring& how, std::int32_t layer,
                                   route_source source) {
    auto& arena = step.arena;
    const auto ordinal = layers_.ordinal(layer);
    auto& into = at(source, ordinal);
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
    into.ordinal = ordinal;
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

/// Routers and heads on the layer `ahead` of this one. Where no head was trained the router speaks.
result<void> route_probe::evaluate_ahead(const step_context& step, const model_layer& from, std::int32_t ahead) {
    const auto by_router = ahead == 1 ? route_source::early : route_source::gate2;
    const auto by_head = ahead == 1 ? route_source::heads : route_source::heads2;
    result<void> done;
    if (wanted(by_router) || (hinted(by_head) && !has_head(from.index, ahead)))
        done = evaluate_router(step, from.index + ahead, by_router);
    if (done && wanted(by_head) && has_head(from.index, ahead))
        done = evaluate_head(step, from, ahead);
    return done;
}

result<void> route_probe::after_attention(const step_context& step, const model_layer& layer) {
    if (rows_ == 0)
        return {};
    auto done = evaluate_ahead(step, layer, 1);
    if (done)
        done = evaluate_ahead(step, layer, 2);
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
    const auto ordinal = layers_.ordinal(layer);
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
            if (predicts(source, ordinal))
                copy_prediction(at(source, ordinal), row, source, seen);
        if (seen.sources != 0 || board_->teaches())
            board_->ring().push(seen);
    }
}

void route_probe::routed(const model_layer& layer, std::span<const std::int32_t> ids,
                         std::span<const std::int32_t> ran) {
    push_observations(layer.index, ids, ran);
    const auto ordinal = layers_.ordinal(layer.index);
    context_.routed(ordinal, ids);
    predict_by_context(ordinal + 1);
}

/// `passed` layers have chosen: predicts the two behind them.
void route_probe::predict_by_context(std::int32_t passed) {
    const auto predict = [this](route_source source, std::int32_t ordinal) {
        auto& into = at(source, ordinal);
        into.ordinal = context_.predict(source, ordinal, std::span(into.host).first(rows_ * ranks_)) ? ordinal : -1;
    };
    for (const auto source : context_sources) {
        const bool by_history = source == route_source::history || source == route_source::history2;
        if (rows_ == 0 || !wanted(source) || (by_history && !context_.has_history()))
            continue;
        if (source != route_source::history2)
            predict(source, passed);
        // The same as will be said of it a layer later, but for the history.
        if (source == route_source::history2 || (source != route_source::history && hint_visits_ > 1 && hinted(source)))
            predict(source, passed + 1);
    }
}

/// The source that hints for a layer are made of: what looks one layer ahead first.
std::optional<route_source> route_probe::source_for_hints(std::int32_t ordinal) const noexcept {
    if (hint_visits_ == 0)
        return std::nullopt;
    const auto chosen = board_->hints();
    const auto near = chosen == route_source::drafted ? route_source::early : chosen;
    for (const auto source : {near, route_source::early, two_ahead(near), route_source::gate2, chosen})
        if (predicts(source, ordinal))
            return source;
    return std::nullopt;
}

bool route_probe::predicts_after(const model_layer& layer) const noexcept {
    const auto passed = layers_.passed(layer.index);
    for (std::size_t visits = 1; visits <= hint_visits_; ++visits)
        if (source_for_hints(passed + static_cast<std::int32_t>(visits) - 1))
            return true;
    return false;
}

void route_probe::give_first_hints(expert_store& store) {
    hint_ahead(0, store);
}

void route_probe::give_hints(const model_layer& layer, expert_store& store) {
    hint_ahead(layers_.passed(layer.index), store);
}

/// `passed` layers have been visited: hints for the visits behind them, the next one first.
void route_probe::hint_ahead(std::int32_t passed, expert_store& store) {
    for (std::size_t visits = 1; visits <= hint_visits_; ++visits) {
        const auto ordinal = passed + static_cast<std::int32_t>(visits) - 1;
        if (ordinal < layers_.count()) {
            const auto source = source_for_hints(ordinal);
            if (!source)
                continue;
            const auto& ids = at(*source, ordinal).host;
            for (std::size_t row = 0; row < rows_; ++row)
                add_row(*source, ordinal, std::span(ids).subspan(row * ranks_, ranks_), 1.0F);
        } else {
            add_next_step(ordinal - layers_.count());
        }
        // Rows err independently enough: an expert stays unwanted when every row that names it is wrong.
        for (const auto& each : of_rows_.take())
            hints_.push_back({each.expert, each.probability});
        if (!hints_.empty())
            store.hint(of_ordinal_[static_cast<std::size_t>(ordinal % layers_.count())], hints_, visits);
        hints_.clear();
    }
}

/// What one row will want; `weight`: how likely the row itself is.
void route_probe::add_row(route_source source, std::int32_t ordinal, std::span<const std::int32_t> ids, float weight) {
    const auto layer = of_ordinal_[static_cast<std::size_t>(ordinal)];
    for (std::size_t rank = 0; rank < hinted_ranks_; ++rank)
        // A kernel's output is not trusted to index host memory.
        if (ids[rank] >= 0 && ids[rank] < shape_.moe.experts)
            of_row_.push_back(
                {ids[rank], weight * board_->probability(source, layer, static_cast<std::int32_t>(rank))});
    of_rows_.add(of_row_);
    of_row_.clear();
}

/// The first layers of the next step, by sources that need no state of it.
void route_probe::add_next_step(std::int32_t ordinal) {
    const auto chosen = board_->hints();
    const bool by_history = chosen == route_source::history;
    if (std::find(context_sources.begin(), context_sources.end(), chosen) == context_sources.end() ||
        ordinal >= layers_.count() || (by_history && !context_.has_history()))
        return;
    const auto source = ordinal > 0 ? two_ahead(chosen) : chosen;
    for (const auto& last : last_rows_)
        if (context_.predict_next(source, ordinal, last.row, next_ids_))
            add_row(source, ordinal, next_ids_, last.weight);
}

} // namespace moira
