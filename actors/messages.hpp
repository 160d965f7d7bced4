#pragma once

#include "actors/runtime_statistics.hpp"
#include "core/batch/generation_input.hpp"
#include "core/batch/generation_request.hpp"
#include "core/batch/step_plan.hpp"

#include <caf/all.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace moira {

/// News about one request for whoever submitted it, under the number that the submitter chose.
struct output_event {
    std::uint64_t tag = 0;
    std::vector<emitted_token> tokens;
    std::string tail_text;
    std::optional<generation_result> finished;  ///< last event of this tag
};

/// All news of one step for one sink: one message per step and sink, never one per token.
struct output_batch {
    std::vector<output_event> events;
};

/// Where outputs go: a gateway or an embedding program. Its death cancels what it submitted.
using sink_actor = caf::typed_actor<caf::reacts_to<std::shared_ptr<const output_batch>>>;

/// A request that intake accepted, on its way to the batcher.
struct admitted_request {
    generation_request request;
    sink_actor sink;
    std::uint64_t tag = 0;
};

// In-process payloads travel as shared pointers: immutable, never copied, never serialised.
using admitted_request_ptr = std::shared_ptr<admitted_request>;
using output_batch_ptr = std::shared_ptr<const output_batch>;
using step_plan_ptr = std::shared_ptr<const step_plan>;
using step_result_ptr = std::shared_ptr<const step_result>;
using generation_input_ptr = std::shared_ptr<const generation_input>;
using runtime_statistics_ptr = std::shared_ptr<const runtime_statistics>;
using expert_statistics_ptr = std::shared_ptr<const expert_store_statistics>;

}  // namespace moira

// The only type-id block, in the order in which a request passes.
CAF_BEGIN_TYPE_ID_BLOCK(moira, first_custom_type_id)

    CAF_ADD_TYPE_ID(moira, (moira::sink_actor))

    CAF_ADD_TYPE_ID(moira, (moira::generation_input_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::admitted_request_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::step_plan_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::step_result_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::output_batch_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::runtime_statistics_ptr))
    CAF_ADD_TYPE_ID(moira, (moira::expert_statistics_ptr))

    CAF_ADD_ATOM(moira, moira, submit_atom, "submit")
    CAF_ADD_ATOM(moira, moira, cancel_atom, "cancel")
    CAF_ADD_ATOM(moira, moira, admit_atom, "admit")
    CAF_ADD_ATOM(moira, moira, run_step_atom, "runstep")
    CAF_ADD_ATOM(moira, moira, advance_atom, "advance")
    CAF_ADD_ATOM(moira, moira, stats_atom, "stats")
    CAF_ADD_ATOM(moira, moira, drain_atom, "drain")
    CAF_ADD_ATOM(moira, moira, resize_atom, "resize")
    CAF_ADD_ATOM(moira, moira, tick_atom, "tick")
    CAF_ADD_ATOM(moira, moira, preempt_atom, "preempt")
    CAF_ADD_ATOM(moira, moira, listen_atom, "listen")

CAF_END_TYPE_ID_BLOCK(moira)

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::generation_input_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::admitted_request_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::step_plan_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::step_result_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::output_batch_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::runtime_statistics_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(moira::expert_statistics_ptr)
