#pragma once

#include "core/batch/sequence.hpp"
#include "core/batch/step_plan.hpp"

#include <cstdint>
#include <span>

namespace moira {

/// The next `rows` uncomputed tokens of a sequence, as one part of a step. Its pages reach that far.
struct step_chunk {
    const sequence* owner = nullptr;
    std::int32_t rows = 0;

    /// Reaches the last token, so that its logits give the next one.
    bool samples() const noexcept { return owner->uncomputed() == rows; }
};

/// Lays out chunks as kernels read them, in the given order.
step_plan build_step(std::uint64_t number, std::span<const step_chunk> chunks, std::int32_t page_tokens);

} // namespace moira
