#pragma once

#include "core/execute/engine.hpp"

#include <cstdint>
#include <span>

namespace moira {

/// Sequences that stand side by side in the KV pool, each with the same number of pages. For steps of the engine alone.
class sequence_places {
public:
    /// `limits` outlives this. `tokens` of each sequence.
    sequence_places(const execution_limits& limits, std::int32_t tokens)
        : limits_(limits), pages_((tokens + limits.page_tokens - 1) / limits.page_tokens) {}

    bool fits(std::int32_t sequences) const { return std::int64_t{sequences} * pages_ <= limits_.pages; }

    /// Adds rows of one sequence to a plan. `sample`: the last row's logits are wanted.
    void add_rows(step_plan& plan, std::int32_t sequence, std::int32_t first, std::span<const token_id> tokens,
                  bool sample) const;

private:
    const execution_limits& limits_;
    std::int32_t pages_;
};

} // namespace moira
