#pragma once

#include "actors/interfaces.hpp"

namespace moira {

/// Answers questions for the tokenizer one after the other, beside the gateway, so that a long text holds up nobody's
/// tokens.
using text_worker_actor = caf::typed_actor<
    // Answer this question.
    caf::replies_to<text_question_ptr>::with<text_answer_ptr>>;

text_worker_actor spawn_text_worker(caf::actor_system& system, const std::shared_ptr<const intake_rules>& rules);

} // namespace moira
