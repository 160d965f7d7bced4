#pragma once

#include "actors/messages.hpp"

namespace moira {

/// The map of the system: one typed handle per actor, in the order in which a request passes.

/// Validates and tokenises requests; knows how many are open and refuses beyond its bounds.
using intake_actor = caf::typed_actor<
    // Check this input, tokenise it and pass it on; every later event of `tag` goes to the sink, refusals included.
    caf::reacts_to<submit_atom, std::uint64_t, generation_input_ptr, sink_actor>,
    // Stop the sink's request with this tag; it still gets its final event.
    caf::reacts_to<cancel_atom, std::uint64_t, sink_actor>,
    // The worker has prepared this request: pass it on, or tell its sink why not.
    caf::reacts_to<ready_atom, admitted_request_ptr>,
    // End the tokenize worker as a crash would.
    caf::reacts_to<fault_atom>,
    // Take nothing new from now on; answer when the last open request has ended.
    caf::replies_to<drain_atom>::with<bool>,
    caf::replies_to<stats_atom>::with<runtime_statistics_ptr>>;

/// Templates and tokenises beside intake, so that a long prompt does not hold up the short ones' bookkeeping.
using tokenize_worker_actor = caf::typed_actor<
    // Prepare this request and send it back.
    caf::reacts_to<submit_atom, admitted_request_ptr, intake_actor>>;

/// Whoever waits for the result of a step; the batcher in serving.
using step_listener_actor = caf::typed_actor<
    // The step in flight is done.
    caf::reacts_to<advance_atom, step_result_ptr>>;

/// Learns how far the layer loop's predictions can be trusted. It listens: nobody waits for it, and what it does not get
/// round to reading is overwritten by newer observations.
using route_predictor_actor = caf::typed_actor<
    // The ring holds new observations: learn from them and publish probabilities.
    caf::reacts_to<observe_atom>>;

/// Whoever waits for verdicts; the batcher in serving.
using verdict_listener_actor = caf::typed_actor<
    // The drafts of this step are judged, the next ones proposed.
    caf::reacts_to<verdict_atom, step_verdict_ptr>>;

/// Judges the drafts of finished steps and proposes the next ones beside the batcher's path. It holds nothing that the
/// batcher could not go on without: losing it costs proposals.
using speculative_verifier_actor = caf::typed_actor<
    // Send verdicts to this one from now on; what was followed for the one before is forgotten.
    caf::reacts_to<verdict_atom, verdict_listener_actor>,
    // Follow and forget these texts.
    caf::reacts_to<follow_atom, follow_orders_ptr>,
    // This step is done: judge its drafts and tell the listener.
    caf::reacts_to<judge_atom, step_plan_ptr, step_result_ptr>>;

/// Runs one step at a time on the device: forward pass, then sampling.
using execution_stream_actor = caf::typed_actor<
    // Run this plan and tell the listener.
    caf::reacts_to<run_step_atom, step_plan_ptr, step_listener_actor>,
    // Tell this predictor of new observations from now on: the one before is gone.
    caf::reacts_to<observe_atom, route_predictor_actor>,
    // Send finished steps with drafts to this verifier too from now on: the one before is gone.
    caf::reacts_to<verifier_atom, speculative_verifier_actor>>;

/// Owns waiting and running sequences; turns them into steps and step results into text.
using batcher_actor = caf::typed_actor<
    // Queue this request; its sink hears of it from now on.
    caf::reacts_to<admit_atom, admitted_request_ptr>,
    // Stop the sink's request with this tag.
    caf::reacts_to<cancel_atom, std::uint64_t, sink_actor>,
    // The step in flight is done: emit tokens, plan the next step.
    caf::reacts_to<advance_atom, step_result_ptr>,
    // The drafts of this step are judged, the next ones proposed.
    caf::reacts_to<verdict_atom, step_verdict_ptr>,
    // Have drafts judged by this verifier from now on: running texts are followed again.
    caf::reacts_to<verifier_atom, speculative_verifier_actor>,
    // Run steps on this stream from now on: the one before is gone, its sequences are recomputed.
    caf::reacts_to<stream_atom, execution_stream_actor>,
    // Look whether the step in flight hangs, or a verdict is overdue.
    caf::reacts_to<watch_atom>,
    // Give up to this many running sequences' pages back and recompute them (tests, memory pressure).
    caf::reacts_to<preempt_atom, std::int32_t>,
    // Answer when nothing waits or runs any more.
    caf::replies_to<drain_atom>::with<bool>,
    caf::replies_to<stats_atom>::with<runtime_statistics_ptr>>;

/// Policy and statistics of the expert store; the store itself is a table with one lock, not a mailbox.
using expert_cache_actor = caf::typed_actor<
    // Change the budget in bytes while running.
    caf::replies_to<resize_atom, std::uint64_t>::with<bool>,
    caf::replies_to<stats_atom>::with<expert_statistics_ptr>>;

/// A sink that the supervisor looks after: it outlives the intake that it submits to.
using supervised_sink_actor = sink_actor::extend<
    // Intake and batcher were lost with everything in them: fail what is open, submit to this one from now on.
    caf::reacts_to<intake_atom, intake_actor>>;

/// Speaks with clients on sockets, by lines or by HTTP; a sink towards the runtime.
using gateway_actor = supervised_sink_actor::extend<
    // Opens the listening socket; the answer is the bound address, "127.0.0.1:7420".
    caf::replies_to<listen_atom, std::string>::with<std::string>,
    // Serves with this one, which listens already.
    caf::replies_to<listen_atom, early_server_ptr>::with<std::string>,
    // Refuse new requests; answer when every connection has got what it waits for.
    caf::replies_to<drain_atom>::with<bool>>;

/// Spawns the parts, watches them, and ends the runtime in order.
using supervisor_actor = caf::typed_actor<
    // End the part of this name as a crash would, between two messages. False: no such part.
    caf::replies_to<fault_atom, std::string>::with<bool>,
    // Once a second: is the step in flight still alive?
    caf::reacts_to<watch_atom>,
    // Tell this sink when the intake is lost; the answer is the one to submit to until then.
    caf::replies_to<intake_atom, supervised_sink_actor>::with<intake_actor>,
    // Make up to this many running sequences give up their pages and be recomputed.
    caf::reacts_to<preempt_atom, std::int32_t>,
    // Change the memory for experts while running. False: below the minimum.
    caf::replies_to<resize_atom, std::uint64_t>::with<bool>,
    // Open a TCP gateway; the answer is the bound address.
    caf::replies_to<listen_atom, std::string>::with<std::string>,
    // Open an HTTP gateway; the answer is the bound address.
    caf::replies_to<listen_atom, http_atom, std::string>::with<std::string>,
    // Open a gateway around a server that listens already.
    caf::replies_to<listen_atom, early_server_ptr>::with<std::string>,
    // Drain gateways, then intake, then the batcher; answer when all is still.
    caf::replies_to<drain_atom>::with<bool>,
    caf::replies_to<stats_atom>::with<runtime_statistics_ptr>>;

}  // namespace moira
