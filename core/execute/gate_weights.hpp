#pragma once

#include "core/base/error.hpp"
#include "core/model/checkpoint.hpp"
#include "core/route/heads_predictor.hpp"

namespace moira {

/// The routers of a model, and the norms before them, for judging them early on a recording. Reads them. Errors: those
/// of find_weight and checkpoint::read, unsupported (routers in a type that is not widened).
result<gate_weights> read_gate_weights(const checkpoint& model);

} // namespace moira
