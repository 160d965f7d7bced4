#pragma once

#include "core/route/linear_heads.hpp"
#include "core/route/ranked_predictor.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace moira {

/// What the routers of a model are made of, widened to float32.
struct gate_weights {
    std::int32_t experts = 0, hidden = 0;
    bool sigmoid = false;                    ///< scores are sigmoids, else softmax
    std::vector<std::vector<float>> routers; ///< [layers that route][experts, hidden]
    std::vector<std::vector<float>> norms;   ///< [layers that route][hidden]: of the norm before the router
    std::vector<std::vector<float>> biases;  ///< [layers that route][experts]: added to scores for the choice; or empty
};

/// Trained heads on a recording with states. `ahead`: 1 or 2. Borrows the trace, shares the heads. Precondition: both
/// fit together.
std::unique_ptr<trace_predictor> make_heads_predictor(const route_trace& trace,
                                                      std::shared_ptr<const linear_heads> heads, std::int32_t ahead);

/// A later layer's own router on a recording with states: the norm of the layer between is undone, which is exact up to
/// the rounding of states. Groups of experts are not looked at. Borrows the trace.
std::unique_ptr<trace_predictor> make_gate_predictor(const route_trace& trace, const gate_weights& gates,
                                                     std::int32_t ahead);

/// `heads:FILE` for make_trace_predictor. Errors: those of read_predictor and check_subject, invalid_argument (a
/// recording without states, a file that holds no heads).
result<std::unique_ptr<trace_predictor>> make_heads_predictor(const predictor_request& request,
                                                              const route_trace& trace);

} // namespace moira
