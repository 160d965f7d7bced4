#pragma once

#include "core/batch/kv_pages.hpp"
#include "core/batch/sequence.hpp"
#include "core/batch/step_plan.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// A chunk of the step in flight. When its sequence leaves the running set meanwhile, the chunk keeps the pages: the
/// kernels of that step still write to them.
struct flying_chunk {
    sequence* owner = nullptr; ///< none: the result is ignored
    std::int32_t rows = 0;     ///< without the draft
    bool samples = false;
    std::vector<token_id> draft;
    kv_pages::sequence_pages orphaned;
    bool decodes = false; ///< its rows stand before those of chunks that do not
    bool failed = false;  ///< the step's failure concerns it
};

/// Sets `failed` where the failure of the step concerns a chunk. `chunks`: all of the step, in the order of its plan
/// among those that decode and among the others.
void mark_failed(std::span<flying_chunk> chunks, const step_result& outcome);

} // namespace moira
