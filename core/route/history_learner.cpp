#include "core/route/history_learner.hpp"

#include <algorithm>
#include <utility>

namespace moira {

routing_layers::routing_layers(const std::vector<bool>& layer_routes) {
    for (const bool routes : layer_routes)
        ordinals_.push_back(routes ? count_++ : -1);
}

history_learner::history_learner(std::shared_ptr<history_model> model, routing_layers layers, std::size_t tokens_max)
    : model_(std::move(model)), layers_(std::move(layers)),
      memory_(model_->shape().layers, model_->shape().top_k, tokens_max) {}

void history_learner::observe(const route_observation& seen) {
    const auto ordinal = layers_.ordinal(seen.layer);
    const auto top_k = static_cast<std::size_t>(model_->shape().top_k);
    if (seen.slot < 0 || ordinal < 0 || ordinal >= model_->shape().layers || seen.top_k != top_k ||
        top_k > route_ids_max)
        return;
    // First: making room may forget the token before.
    const auto token = memory_.token(seen.slot, seen.step);
    const auto chosen = std::span(seen.chosen).first(top_k);
    model_->learn(ordinal, {token, memory_.find(seen.previous_slot)}, chosen);
    std::copy(chosen.begin(), chosen.end(), token.begin() + ordinal * static_cast<std::ptrdiff_t>(top_k));
}

} // namespace moira
