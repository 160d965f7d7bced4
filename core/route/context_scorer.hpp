#pragma once

#include "core/route/history_model.hpp"
#include "core/route/route_memory.hpp"
#include "core/route/route_observation.hpp"

#include <cstdint>
#include <memory>
#include <span>

namespace moira {

/// Scores the experts of a layer by routing alone, without hidden states: `history`, `previous` and `prompt` of
/// route_source. One thread; the history model may be learnt from on another one.
class context_scorer {
public:
    /// `model` may be null: history then falls back to the previous token as long as it lasts.
    context_scorer(const history_model::dimensions& shape, std::shared_ptr<history_model> model);

    /// Higher is likelier, into `scores` [experts]. False when nothing is known to go by: nobody remembers the token
    /// before, or nobody has chosen in this layer yet.
    bool score(route_source source, std::int32_t layer, const route_context& context, std::span<float> scores) const;

    /// `layer` has chosen. For whoever is asked next.
    void observe(std::int32_t layer, std::span<const std::uint16_t> chosen) { popularity_.observe(layer, chosen); }

    const history_model::dimensions& shape() const noexcept { return shape_; }
    history_model* model() const noexcept { return model_.get(); }

private:
    bool score_previous(std::int32_t layer, const route_context& context, std::span<float> scores) const;
    bool score_popularity(std::int32_t layer, std::span<float> scores) const;

    history_model::dimensions shape_;
    std::shared_ptr<history_model> model_;
    route_popularity popularity_;
};

/// The experts with the highest scores, the best first, equal ones by number. Writes `into` whole. Precondition: as
/// many scores at least, at most 65,535.
void best_experts(std::span<const float> scores, std::span<std::uint16_t> into);

} // namespace moira
