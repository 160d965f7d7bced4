#include "core/route/context_scorer.hpp"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace moira {

context_scorer::context_scorer(const history_model::dimensions& shape, std::shared_ptr<history_model> model)
    : shape_(shape), model_(std::move(model)), popularity_(shape.layers, shape.experts) {}

bool context_scorer::score(route_source source, std::int32_t layer, const route_context& context,
                           std::span<float> scores) const {
    if (source == route_source::prompt)
        return score_popularity(layer, scores);
    if (source == route_source::history && model_ && model_->score(layer, context, scores))
        return true;
    return score_previous(layer, context, scores);
}

bool context_scorer::score_previous(std::int32_t layer, const route_context& context, std::span<float> scores) const {
    const auto top_k = static_cast<std::size_t>(shape_.top_k);
    if (context.previous.size() != static_cast<std::size_t>(shape_.layers) * top_k)
        return false;
    const auto ids = context.previous.subspan(static_cast<std::size_t>(layer) * top_k, top_k);
    if (ids.front() == route_unknown)
        return false;
    // Behind what the previous token chose come those that were chosen often, all below 1.
    if (!score_popularity(layer, scores))
        std::fill(scores.begin(), scores.end(), 0.0F);
    for (std::size_t rank = 0; rank < top_k; ++rank)
        if (ids[rank] < scores.size())
            scores[ids[rank]] = static_cast<float>(top_k - rank);
    return true;
}

bool context_scorer::score_popularity(std::int32_t layer, std::span<float> scores) const {
    const auto counts = popularity_.of(layer);
    const float most = *std::max_element(counts.begin(), counts.end());
    if (most <= 0)
        return false;
    // Below 1, so that other knowledge can be put in front.
    std::transform(counts.begin(), counts.end(), scores.begin(), [most](float count) { return 0.5F * count / most; });
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
