#pragma once

#include "actors/runtime_statistics.hpp"
#include "core/plan/verdict.hpp"

#include <string>

namespace moira {

/// What a verdict needs of a runtime's counters, since its start or of a while. `tok_s`: as the command measured it; 0:
/// it did not.
verdict_facts verdict_facts_of(const runtime_statistics& statistics, double tok_s);

/// A table of the layers' experts for people; empty where no layer asked for one.
std::string layer_table(const expert_store_statistics& experts, bool colour);

} // namespace moira
