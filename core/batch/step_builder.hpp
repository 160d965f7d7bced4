#pragma once

#include "core/batch/sequence.hpp"
#include "core/batch/step_plan.hpp"

#include <cstdint>
#include <optional>
#include <span>

namespace moira {

/// The next `rows` uncomputed tokens of a sequence, and behind its last token a draft, as one part of a step. Its pages
/// reach that far.
struct step_chunk {
    const sequence* owner = nullptr;
    std::int32_t rows = 0;                ///< without the draft
    std::span<const token_id> draft = {}; ///< only where the chunk samples
    std::optional<std::int32_t> offer_max = {}; ///< where the model drafts: tokens that it may offer

    /// Reaches the last token, so that its logits give the next one.
    bool samples() const noexcept { return owner->uncomputed() == rows; }
};

/// Lays out chunks as kernels read them, in the given order.
step_plan build_step(std::uint64_t number, std::span<const step_chunk> chunks, std::int32_t page_tokens);

} // namespace moira
