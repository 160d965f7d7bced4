#pragma once

#include "core/batch/step_plan.hpp"
#include "core/execute/mtp_block.hpp"
#include "core/execute/op_descriptions.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// A sequence whose next tokens the multi-token-prediction module drafts.
struct drafting_sequence {
    const draft_request* wanted = nullptr;
    const sample_request* last = nullptr; ///< the newest true token's: how drafted tokens are chosen
    offered_draft offer;
};

/// One pass of the module over rows of several sequences.
struct mtp_pass {
    std::vector<row_run> kept;        ///< rows of the step whose hidden states are the pass's
    step_plan rows;                   ///< samples unused
    std::vector<std::int32_t> wanted; ///< rows of the pass whose logits draft a token, one per sequence
};

/// The pass that follows a step: all its rows but those of rejected drafts, each with the token that follows it, so
/// that the module's KV cache knows every position that the model's knows. `drafting` gets the sequences whose last row
/// was sampled. Precondition: `samples` are the plan's, all of them.
mtp_pass first_mtp_pass(const step_plan& plan, std::span<const sampled_token> samples,
                        std::vector<drafting_sequence>& drafting);

/// The pass that drafts one more token: from the module's own state behind the last drafted one. Sequences that want no
/// more, or have no slot for it, leave `drafting`; `stayed` gets the former places of the others.
mtp_pass next_mtp_pass(const step_plan& plan, const execution_limits& limits, std::vector<drafting_sequence>& drafting,
                       std::vector<std::size_t>& stayed);

/// Drafts a token from the module's logits, as it would be sampled from the model's: the same random number makes both
/// agree more often than two draws would.
void draft_token(drafting_sequence& sequence, std::span<const float> logits);

} // namespace moira
