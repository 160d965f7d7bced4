#include "core/batch/flying_chunk.hpp"

#include <algorithm>

namespace moira {

void mark_failed(std::span<flying_chunk> chunks, const step_result& outcome) {
    if (!outcome.failure)
        return;
    const auto& rows = outcome.failed_rows;
    const bool all = rows.empty();
    std::int32_t first = 0;
    bool any = false;
    for (const bool decoding : {true, false})
        for (flying_chunk& chunk : chunks) {
            if (chunk.decodes != decoding)
                continue;
            const auto end = first + chunk.rows + static_cast<std::int32_t>(chunk.draft.size());
            const auto found = std::lower_bound(rows.begin(), rows.end(), first);
            chunk.failed = all || (found != rows.end() && *found < end);
            any = any || chunk.failed;
            first = end;
        }
    // A failure of rows that the step does not have would be repeated for ever.
    if (!any)
        for (flying_chunk& chunk : chunks)
            chunk.failed = true;
}

} // namespace moira
