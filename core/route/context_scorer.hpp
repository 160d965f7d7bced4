#pragma once

#include "core/route/history_model.hpp"
#include "core/route/route_memory.hpp"
#include "core/route/route_observation.hpp"
#include "core/route/sequence_popularity.hpp"

#include <cstdint>
#include <memory>
#include <span>

namespace moira {

/// Scores the experts of a layer by routing alone, without hidden states: `history` (however far ahead), `previous`,
/// `prompt` and `drafted` of route_source. One thread; the history model may be learnt from on another one.
class context_scorer {
public:
    /// `model` may be null: history then falls back to the previous token as long as it lasts.
    context_scorer(const history_model::dimensions& shape, std::shared_ptr<history_model> model);

    /// Higher is likelier, into `scores` [experts]. False when nothing is known to go by: nobody remembers the token
    /// before, nobody has chosen in this layer yet, or no draft was rejected in the token's place.
    bool score(route_source source, std::int32_t layer, const route_context& context, std::span<float> scores) const;

    /// `layer` has chosen. For whoever is asked next.
    void observe(std::int32_t layer, std::span<const std::uint16_t> chosen) { popularity_.observe(layer, chosen); }

    /// What each sequence chose: theirs to be told, forgotten and asked.
    sequence_popularity& sequences() noexcept { return sequences_; }

    const history_model::dimensions& shape() const noexcept { return shape_; }
    history_model* model() const noexcept { return model_.get(); }

private:
    bool score_previous(std::int32_t layer, const route_context& context, std::span<float> scores) const;
    bool score_popularity(std::int32_t layer, std::uint64_t sequence, std::span<float> scores) const;
    bool score_drafted(std::int32_t layer, const route_context& context, std::span<float> scores) const;
    std::span<const std::uint16_t> of_layer(std::span<const std::uint16_t> token, std::int32_t layer) const noexcept;

    history_model::dimensions shape_;
    std::shared_ptr<history_model> model_;
    route_popularity popularity_;
    sequence_popularity sequences_;
};

/// The experts with the highest scores, the best first, equal ones by number. Writes `into` whole. Precondition: as
/// many scores at least, at most 65,535.
void best_experts(std::span<const float> scores, std::span<std::uint16_t> into);

} // namespace moira
