#pragma once

#include "core/route/history_model.hpp"
#include "core/route/route_memory.hpp"
#include "core/route/route_observation.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace moira {

/// The layers of a model that route, numbered from 0.
class routing_layers {
public:
    /// [layers] of the model.
    explicit routing_layers(const std::vector<bool>& layer_routes);

    /// -1: the layer does not exist or does not route.
    std::int32_t ordinal(std::int32_t layer) const noexcept {
        return layer >= 0 && static_cast<std::size_t>(layer) < ordinals_.size()
                   ? ordinals_[static_cast<std::size_t>(layer)]
                   : -1;
    }
    std::int32_t count() const noexcept { return count_; }
    /// How many of them come up to `layer`, itself included.
    std::int32_t passed(std::int32_t layer) const noexcept {
        std::int32_t count = 0;
        for (std::int32_t each = 0; each <= layer && static_cast<std::size_t>(each) < ordinals_.size(); ++each)
            count += ordinal(each) >= 0;
        return count;
    }

private:
    std::vector<std::int32_t> ordinals_;
    std::int32_t count_ = 0;
};

/// Teaches a history model what observations tell, in whatever order steps leave them. What was dropped is not learnt
/// from, and no reason to mix tokens up. Plain state, one thread; the model may be asked on another one.
class history_learner {
public:
    /// Remembers `tokens_max` tokens, so that the token before one in flight is known.
    history_learner(std::shared_ptr<history_model> model, routing_layers layers, std::size_t tokens_max);

    void observe(const route_observation& seen);

private:
    std::shared_ptr<history_model> model_;
    routing_layers layers_;
    route_memory memory_;
};

} // namespace moira
