#pragma once

#include "actors/connection_session.hpp"
#include "actors/runtime_statistics.hpp"

#include <string>

namespace moira {

/// Everything countable in Prometheus' text format 0.0.4. Names begin with `moira_` and end with their unit; a counter
/// is said to be one in its TYPE line.
std::string metrics_text(const runtime_statistics& runtime, const tcp_statistics& server);

} // namespace moira
