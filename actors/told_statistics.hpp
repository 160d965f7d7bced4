#pragma once

#include "actors/runtime_statistics.hpp"

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

namespace moira {

// What a client learns of a server's counters: as much as a verdict needs. A server is foreign: what is missing, of
// another kind or out of range counts as 0, and names are cut.

/// From the object of {"stats":...}. None: it tells nothing of steps.
std::optional<runtime_statistics> told_statistics(const nlohmann::json& stats);

/// From the text of /metrics. None: it tells nothing of steps.
std::optional<runtime_statistics> told_statistics(std::string_view metrics);

/// What happened between two answers of one server; all of `after` where it was started anew meanwhile.
runtime_statistics statistics_between(const runtime_statistics& before, const runtime_statistics& after);

} // namespace moira
