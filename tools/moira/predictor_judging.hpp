#pragma once

#include "core/base/error.hpp"
#include "core/route/heads_predictor.hpp"
#include "core/route/predictor_file.hpp"
#include "core/route/predictor_judgement.hpp"
#include "tools/moira/command_line.hpp"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// What is known of the model that a recording was made with.
struct recorded_model {
    predictor_subject subject;
    std::optional<gate_weights> gates; ///< none: no model was found that fits
};

/// The model that `wanted` names, or the bundled one where nothing is named and it fits the recording; else what the
/// recording itself tells. Errors: those of find_model and checkpoint, invalid_argument (a named model that does not
/// fit).
result<recorded_model> find_recorded_model(const std::string& wanted, const route_trace& trace,
                                           const command_context& context);

/// Every predictor that a recording can judge: the control, and of gate, gate2, heads, heads2 those for which there are
/// states and weights, history, previous and prompt. `trained` may be null. Errors: internal (the control was wrong).
result<std::vector<predictor_judgement>> judge_predictors(const route_trace& trace, const recorded_model& model,
                                                          const trained_predictor* trained,
                                                          const judgement_options& options);

nlohmann::ordered_json judgement_json(const predictor_judgement& judged);
std::string judgement_text(const std::vector<predictor_judgement>& judged, bool colour);

} // namespace moira
