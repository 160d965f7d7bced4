#pragma once

#include "actors/moira/runtime_messages.hpp"
#include "actors/output_event.hpp"
#include "actors/runtime_statistics.hpp"
#include "core/batch/generation_input.hpp"

namespace moira {

// The one border between what a host program says and what the runtime speaks inside.

generation_input to_input(const prompt_request& request);

/// Without tag and rest, which belong to the delivery.
text_end to_end_message(const generation_result& outcome, const runtime_identity& identity,
                        const expert_store_statistics& experts);

runtime_counters to_counters(const runtime_statistics& statistics);

} // namespace moira
