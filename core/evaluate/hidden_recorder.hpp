#pragma once

#include "core/base/error.hpp"
#include "core/execute/forward_observer.hpp"
#include "core/model/model_shape.hpp"
#include "core/route/route_trace.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// Keeps what the routers of one sequence saw, as route_sequence::hidden wants it: BF16, token by token, layer by
/// layer. Feed it through a forward_observer; layers come in order within a step, steps in order of tokens.
class hidden_recorder {
public:
    explicit hidden_recorder(const model_shape& shape);

    /// `rows` [rows, hidden] of `layer`, which routes.
    void router_input(std::int32_t layer, std::span<const float> rows);

    /// [tokens, layers that route, hidden] of everything since the last call.
    std::vector<std::uint16_t> take();

private:
    std::size_t hidden_, layers_;
    std::vector<std::int32_t> ordinals_; ///< of the model's layers, among those that route; -1: does not route
    std::vector<std::uint16_t> states_;
    std::size_t step_begin_ = 0; ///< first value of the step that is being filled
};

} // namespace moira
