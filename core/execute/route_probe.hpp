#pragma once

#include "core/base/error.hpp"
#include "core/execute/attention_block.hpp"
#include "core/experts/expert_store.hpp"
#include "core/route/route_board.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace moira {

/// Rows of a step up to which routers are evaluated early. More rows together choose nearly every expert of a layer, so
/// a prediction would say nothing.
inline constexpr std::int32_t route_rows_max = 64;

/// Steps between two in which every source of predictions is measured, the control among them, and not only the one
/// that hints are made of.
inline constexpr std::uint64_t route_audit_steps = 16;

/// Evaluates routers before their layer's turn and compares what they say with what is chosen then. Only reads the
/// residual stream and writes buffers of its own, or ones that the layer overwrites before it reads them: results never
/// depend on it. One thread: that of the step.
class route_probe {
public:
    /// `board` gets the observations. `audit_always`: measures every source in every step. `pruning`: what leaves
    /// chosen experts out, borrowed; null: nobody. Errors: out_of_memory, device_error, unsupported (more experts per
    /// token than an observation holds).
    static result<std::unique_ptr<route_probe>> create(const model_shape& shape, const execution_limits& limits,
                                                       const op_provider& memory, std::shared_ptr<route_board> board,
                                                       bool audit_always, const expert_pruning* pruning = nullptr);

    /// `hints_wanted`: somebody can use hints in this step.
    void begin_step(std::uint64_t number, std::int32_t rows, bool hints_wanted);

    /// The residual stream is the layer's input.
    result<void> before_attention(const step_context& step, const model_layer& layer);

    /// The residual stream is what the layer's own router sees.
    result<void> after_attention(const step_context& step, const model_layer& layer);

    /// The layer has chosen: `ids` [rows, top_k], no_expert where a rank is left out. The queue is idle.
    void routed(const model_layer& layer, std::span<const std::int32_t> ids);

    /// Tells the store what the layer after this one will probably want. The queue is idle, and this layer's demand
    /// loads have been asked for.
    void give_hints(const model_layer& layer, expert_store& store);

    /// Whether give_hints would have something to say about the layer after this one.
    bool predicts_after(const model_layer& layer) const noexcept { return next_.layer == layer.index + 1; }

private:
    /// The ids of one source on their way from the device.
    struct prediction {
        device_buffer ids;              ///< i32 [route_rows_max, top_k]
        std::vector<std::int32_t> host; ///< the same
        std::vector<float> weights;     ///< only where pruning asks: [route_rows_max, top_k]
        bool settled = true;            ///< pruning has seen it
        std::int32_t layer = -1;        ///< of whose router; -1: nothing
    };

    route_probe(const model_shape& shape, std::shared_ptr<route_board> board, bool audit_always,
                const expert_pruning* pruning);
    result<prediction> create_prediction(const op_provider& memory, std::size_t ids) const;
    void settle(prediction& arrived) const;
    result<void> evaluate(const step_context& step, const model_layer& layer, prediction& into);
    prediction& of(route_source source) noexcept { return predictions_[static_cast<std::size_t>(source)]; }

    std::size_t top_k_;
    std::int32_t experts_;
    std::shared_ptr<route_board> board_;
    bool audit_always_;
    const expert_pruning* pruning_;

    std::uint64_t step_ = 0;
    std::size_t rows_ = 0;
    bool early_wanted_ = false, audit_ = false;         ///< of this step
    std::array<prediction, route_sources> predictions_; ///< of the layer whose turn it is
    prediction next_;                                   ///< early, of the layer after it

    // for give_hints, so that it allocates nothing
    std::vector<float> absent_;      ///< [experts]: probability that no row wants it
    std::vector<expert_hint> hints_; ///< empty between calls
};

} // namespace moira
