#pragma once

#include "core/base/error.hpp"
#include "core/execute/route_override.hpp"
#include "core/model/model_shape.hpp"
#include "core/route/trace_predictor.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// Plays a recording in the place of the routers: each row of a step has a sequence of its own and goes one token
/// further with every step. Row r begins with sequence r and goes on, at its end, with the one `rows` further.
class forced_routes final : public route_override {
public:
    /// Layers that are hinted at once: as many as the store takes, so that the link also has work while the logits are
    /// computed; never the layer that is being visited, where there is another.
    static std::uint32_t layers_ahead(const route_trace& trace) noexcept {
        return std::clamp(trace.layers - 1, 1U, static_cast<std::uint32_t>(hint_visits_max));
    }

    /// `trace` and `predictor` outlive this. The model's n-th layer with experts plays the n-th of the recording.
    /// `predictor` may be null: no hints. Errors: invalid_argument (another number of experts, other top_k, fewer
    /// layers, no tokens).
    static result<forced_routes> create(const route_trace& trace, const model_shape& shape, std::int32_t rows,
                                        trace_predictor* predictor);

    /// For comparisons in which time must not decide: give_hints() returns when nothing is left to load, neither for
    /// this layer nor for hints. A load that fails, or that takes longer than anything reads, ends this.
    void settle_hints(bool wanted) noexcept { settle_ = wanted; }

    /// The step that played is over: every row is at its next token.
    void advance();

    void choose(std::int32_t layer, std::span<std::int32_t> ids, std::span<float> weights) override;
    bool hints() const noexcept override { return predictor_ != nullptr; }
    void give_hints(std::int32_t layer, expert_store& store) override;

private:
    forced_routes(const route_trace& trace, trace_predictor* predictor);
    route_position after(route_position from) const;
    void settle(const expert_store& store);
    void hint(std::uint32_t layer, std::uint32_t steps, std::uint32_t visits, expert_store& store);

    const route_trace* trace_;
    trace_predictor* predictor_;
    std::vector<std::int32_t> recorded_; ///< [layers of the model]: layer of the recording, -1: has no experts
    std::vector<std::int32_t> of_model_; ///< the other way round
    std::vector<route_position> rows_;
    prediction_union of_rows_;
    std::vector<predicted_expert> of_row_; ///< for hint(); empty between calls
    std::vector<expert_hint> hints_;       ///< the same
    bool settle_ = false;
};

} // namespace moira
