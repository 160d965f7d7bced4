#pragma once

#include <cstdint>
#include <span>

namespace moira {

/// Watches a forward pass: evaluation and tracing. Called on the thread that runs the step, in order. What it gets is
/// valid during the call only.
class forward_observer {
public:
    virtual ~forward_observer() = default;

    /// Residual stream before layer `layer`, [rows, hidden]; `layer` = number of layers: after the final norm.
    virtual void hidden(std::int32_t layer, std::span<const float> rows) = 0;

    /// Chosen experts, [rows, top_k], in falling order of choice.
    virtual void routing(std::int32_t layer, std::span<const std::int32_t> ids) = 0;

    /// Whether gate_weights() is wanted: they must be brought to the host first.
    virtual bool wants_gate_weights() const { return false; }

    /// Gate weights of the chosen experts, [rows, top_k]; after routing() of the same layer.
    virtual void gate_weights(std::int32_t, std::span<const float>) {}

    /// Whether router_input() is wanted: it costs a copy per layer.
    virtual bool wants_router_inputs() const { return false; }

    /// What the router of `layer` saw, [rows, hidden], right after its routing().
    virtual void router_input(std::int32_t, std::span<const float>) {}

    /// Logits of one row of the step, in order of the plan's samples.
    virtual void logits(std::int32_t row, std::span<const float> values) = 0;

    /// Logits of one row of a multi-token-prediction pass: the token after next.
    virtual void mtp_logits(std::int32_t, std::span<const float>) {}
};

}  // namespace moira
