#pragma once

#include "core/route/trace_predictor.hpp"

namespace moira {

struct scripted_options {
    double recall = 1;    ///< share of the chosen experts that are named
    double precision = 1; ///< share of the named experts that are chosen; above 0
    std::uint64_t seed = 1;
};

/// Errors: invalid_argument. "" is the oracle; "recall=0.85,precision=0.85,seed=1".
result<scripted_options> parse_scripted(std::string_view text);

/// Replays a recording's future, right as often as it is told to be: a reference point for engine and simulator alike.
/// What it says about (sequence, token, layer) depends on these and the seed alone, in whatever order it is asked.
/// Each chosen expert is named with probability `recall`, and so many others, drawn evenly, that `precision` holds on
/// average; right and wrong ones are mixed, each with probability `precision` beside it.
class scripted_predictor final : public trace_predictor {
public:
    /// Borrows `trace`.
    scripted_predictor(const route_trace& trace, const scripted_options& options) : trace_(&trace), options_(options) {}

    std::string name() const override;

    /// Precondition: the position and the layer exist in the trace.
    void predict(route_position at, std::uint32_t layer, std::vector<predicted_expert>& into) override;

private:
    const route_trace* trace_;
    scripted_options options_;
};

/// For make_trace_predictor.
result<std::unique_ptr<trace_predictor>> make_scripted_predictor(const predictor_request& request,
                                                                 const route_trace& trace);

} // namespace moira
