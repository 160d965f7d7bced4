#pragma once

#include "core/base/error.hpp"
#include "core/route/route_observation.hpp"

#include <string>
#include <string_view>

namespace moira {

/// Which predictor hints are made of.
struct predictor_choice {
    route_source source = route_source::early;
    std::string file; ///< of `moira predictor train`; empty: none
};

/// Reads experts.predictor: "gate" (or nothing), "history", "history:FILE", "heads:FILE", "previous", "prompt" or
/// "drafted".
/// Errors: invalid_config (another name, a file where none belongs, none where one does), unsupported (sources that are
/// only measured).
result<predictor_choice> parse_predictor_choice(std::string_view text);

} // namespace moira
