#pragma once

#include "core/experts/expert_store.hpp"

#include <cstdint>
#include <span>

namespace moira {

/// Chooses experts in the place of a model's routers, and may know what it will choose: for measuring with a recorded
/// routing. All else of a step is as ever, the routers' own work included. Called on the thread that runs the step.
class route_override {
public:
    virtual ~route_override() = default;

    /// What the router of `layer` chose, `ids` and `weights` [rows, top_k]; what they hold afterwards counts.
    virtual void choose(std::int32_t layer, std::span<std::int32_t> ids, std::span<float> weights) = 0;

    /// Whether give_hints() says anything. Then the engine's own predictors, which know the routers' choice and not
    /// this one, only watch.
    virtual bool hints() const noexcept = 0;

    /// The demand of `layer` has been asked for: the moment to hint what later layers will want.
    virtual void give_hints(std::int32_t layer, expert_store& store) = 0;
};

} // namespace moira
