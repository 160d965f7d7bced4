#pragma once

#include "actors/early_server.hpp"
#include "actors/moira/runtime_messages.hpp"
#include "actors/output_event.hpp"
#include "actors/runtime_statistics.hpp"
#include "actors/text_question.hpp"
#include "core/batch/generation_input.hpp"
#include "core/batch/generation_request.hpp"
#include "core/batch/step_plan.hpp"
#include "core/speculate/draft_verifier.hpp"

#include <caf/all.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace moira {

/// Where outputs go: a gateway or an embedding program. Its death cancels what it submitted.
using sink_actor = caf::typed_actor<caf::reacts_to<std::shared_ptr<const output_batch>>>;

/// A request on its way through intake to the batcher: what was asked and, once prepared, what will run or why not.
struct admitted_request {
    std::shared_ptr<const generation_input> input;
    request_id id;
    result<generation_request> request = fail(errc::internal, "not prepared yet");
    sink_actor sink;
    std::uint64_t tag = 0;
};

// In-process payloads travel as shared pointers: never copied, never serialised, and immutable once sent (an
// admitted_request has one holder at a time).
using admitted_request_ptr = std::shared_ptr<admitted_request>;
using output_batch_ptr = std::shared_ptr<const output_batch>;
using step_plan_ptr = std::shared_ptr<const step_plan>;
using step_result_ptr = std::shared_ptr<const step_result>;
using follow_orders_ptr = std::shared_ptr<const std::vector<follow_order>>;
using step_verdict_ptr = std::shared_ptr<const step_verdict>;
using generation_input_ptr = std::shared_ptr<const generation_input>;
using runtime_statistics_ptr = std::shared_ptr<const runtime_statistics>;
using expert_statistics_ptr = std::shared_ptr<const expert_store_statistics>;
using text_question_ptr = std::shared_ptr<const text_question>;
using early_server_ptr = std::shared_ptr<early_server>; // one holder at a time
using text_answer_ptr = std::shared_ptr<const result<text_answer>>;

}  // namespace moira

// Messages inside a runtime, in the order in which a request passes. Those that a host program sees, and the atoms that
// both use, stand in actors/moira/runtime_messages.hpp. Above a host's own block and its ids of our messages.
CAF_BEGIN_TYPE_ID_BLOCK(moira, ::moira::first_type_id + 1'000)

    CAF_ADD_TYPE_ID(moira, (moira::generation_input_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::admitted_request_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::step_plan_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::step_result_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::follow_orders_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::step_verdict_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::output_batch_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::runtime_statistics_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::expert_statistics_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::text_question_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::text_answer_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::early_server_ptr))

    CAF_ADD_ATOM(moira, moira, admit_atom, "admit")
    CAF_ADD_ATOM(moira, moira, run_step_atom, "runstep")
    CAF_ADD_ATOM(moira, moira, advance_atom, "advance")
    CAF_ADD_ATOM(moira, moira, follow_atom, "follow")
    CAF_ADD_ATOM(moira, moira, judge_atom, "judge")
    CAF_ADD_ATOM(moira, moira, verdict_atom, "verdict")
    CAF_ADD_ATOM(moira, moira, verifier_atom, "verifier")
    CAF_ADD_ATOM(moira, moira, ready_atom, "ready")
    CAF_ADD_ATOM(moira, moira, resize_atom, "resize")
    CAF_ADD_ATOM(moira, moira, preempt_atom, "preempt")
    CAF_ADD_ATOM(moira, moira, stream_atom, "stream")
    CAF_ADD_ATOM(moira, moira, intake_atom, "intake")
    CAF_ADD_ATOM(moira, moira, watch_atom, "watch")
    CAF_ADD_ATOM(moira, moira, fault_atom, "fault")
    CAF_ADD_ATOM(moira, moira, http_atom, "http")
    CAF_ADD_ATOM(moira, moira, text_atom, "text")
    CAF_ADD_ATOM(moira, moira, observe_atom, "observe")

CAF_END_TYPE_ID_BLOCK(moira)

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::generation_input_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::admitted_request_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::step_plan_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::step_result_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::follow_orders_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::step_verdict_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::output_batch_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::runtime_statistics_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::expert_statistics_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::text_question_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::text_answer_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::early_server_ptr)
