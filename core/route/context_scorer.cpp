#include "core/route/context_scorer.hpp"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace moira {

namespace {

/// A sequence that has chosen nothing counts as one whose last so many tokens chose as all sequences do.
constexpr float common_tokens = 8;

} // namespace

context_scorer::context_scorer(const history_model::dimensions& shape, std::shared_ptr<history_model> model)
    : shape_(shape), model_(std::move(model)), popularity_(shape.layers, shape.experts),
      sequences_(shape.layers, shape.experts) {}

bool context_scorer::score(route_source source, std::int32_t layer, const route_context& context,
                           std::span<float> scores) const {
    if (source == route_source::prompt)
        return score_popularity(layer, context.sequence, scores);
    if (source == route_source::drafted)
        return score_drafted(layer, context, scores);
    const bool by_history = source == route_source::history || source == route_source::history2;
    if (by_history && model_ && model_->score(layer, context, scores))
        return true;
    return score_previous(layer, context, scores);
}

/// Empty: not known.
std::span<const std::uint16_t> context_scorer::of_layer(std::span<const std::uint16_t> token,
                                                        std::int32_t layer) const noexcept {
    const auto top_k = static_cast<std::size_t>(shape_.top_k);
    if (token.size() != static_cast<std::size_t>(shape_.layers) * top_k)
        return {};
    const auto ids = token.subspan(static_cast<std::size_t>(layer) * top_k, top_k);
    return ids.front() == route_unknown ? std::span<const std::uint16_t>() : ids;
}

bool context_scorer::score_previous(std::int32_t layer, const route_context& context, std::span<float> scores) const {
    const auto ids = of_layer(context.previous, layer);
    if (ids.empty())
        return false;
    // Behind what the previous token chose come those that were chosen often, all below 1.
    if (!score_popularity(layer, context.sequence, scores))
        std::fill(scores.begin(), scores.end(), 0.0F);
    for (std::size_t rank = 0; rank < ids.size(); ++rank)
        if (ids[rank] < scores.size())
            scores[ids[rank]] = static_cast<float>(ids.size() - rank);
    return true;
}

bool context_scorer::score_drafted(std::int32_t layer, const route_context& context, std::span<float> scores) const {
    const auto ids = of_layer(context.drafted, layer);
    if (ids.empty())
        return false;
    // Behind what the draft chose comes what is known without it, at most top_k.
    if (!score_previous(layer, context, scores) && !score_popularity(layer, context.sequence, scores))
        std::fill(scores.begin(), scores.end(), 0.0F);
    for (std::size_t rank = 0; rank < ids.size(); ++rank)
        if (ids[rank] < scores.size())
            scores[ids[rank]] = static_cast<float>(2 * ids.size() - rank);
    return true;
}

bool context_scorer::score_popularity(std::int32_t layer, std::uint64_t sequence, std::span<float> scores) const {
    const auto common = popularity_.of(layer);
    const float all = std::accumulate(common.begin(), common.end(), 0.0F);
    const float scale = all > 0 ? common_tokens * static_cast<float>(shape_.top_k) / all : 0.0F;
    std::transform(common.begin(), common.end(), scores.begin(), [scale](float count) { return scale * count; });
    if (const auto* own = sequences_.find(sequence)) {
        const auto counts = own->of(layer);
        const float worth = own->worth(layer);
        for (std::size_t expert = 0; expert < scores.size(); ++expert)
            scores[expert] += counts[expert] / worth;
    }
    const float most = *std::max_element(scores.begin(), scores.end());
    if (most <= 0)
        return false;
    // Below 1, so that other knowledge can be put in front.
    for (float& each : scores)
        each *= 0.5F / most;
    return true;
}

void best_experts(std::span<const float> scores, std::span<std::uint16_t> into) {
    thread_local std::vector<std::uint16_t> order;
    order.resize(scores.size());
    std::iota(order.begin(), order.end(), std::uint16_t{0});
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(into.size()), order.end(),
                      [scores](std::uint16_t a, std::uint16_t b) {
                          return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
                      });
    std::copy_n(order.begin(), into.size(), into.begin());
}

} // namespace moira
