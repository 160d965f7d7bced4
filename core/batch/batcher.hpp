#pragma once

#include "core/base/error.hpp"
#include "core/batch/draft_planner.hpp"
#include "core/batch/generation_request.hpp"
#include "core/batch/kv_pages.hpp"
#include "core/batch/step_plan.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace moira {

/// Every bound of batching, with the reason for its default.
struct batch_options {
    std::int32_t sequences_max = 16;    ///< running together; each adds experts to the step's union
    std::int32_t step_tokens_max = 512; ///< rows of one step: sizes the step arena
    std::int32_t chunk_tokens_max = 512;  ///< of one prompt per step, so that decoding neighbours are not held up longer
    std::int32_t queue_max = 256;       ///< waiting requests, beyond: queue_full
    std::int32_t context_max = 0;       ///< positions of one sequence
    std::int32_t vocabulary = 0;
    std::vector<token_id> eos;
    kv_pages::options kv;
    speculation_options speculation;
};

/// What the batcher needs of a tokenizer: the bytes of one token (empty for special ones and without a tokenizer).
using token_bytes_function = std::function<std::string_view(token_id)>;

/// Counters since the start.
struct batch_statistics {
    std::int32_t waiting = 0, running = 0, pages_free = 0, pages_total = 0;
    std::uint64_t admitted = 0, finished = 0, cancelled = 0, failed = 0, preemptions = 0;
    std::uint64_t steps = 0, rows = 0, prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
    speculation_counts speculation; ///< rows counts accepted drafts and no others
    std::uint64_t dropped_drafts = 0; ///< tokens that the model offered and no step verified: too unlikely, or no room
    std::uint64_t draft_failures = 0; ///< steps whose offers were lost to an error of the drafting pass
};

/// Continuous batching as a plain state machine: requests in, step plans out, results in, text out. Decode rows come
/// first, prompt chunks fill the step, drafts take what is left. When KV pages run out, the newest running sequence is preempted: it gives its
/// pages back, waits at the front, and is recomputed (prompt plus emitted tokens); its text does not change. A request
/// whose context can never fit is refused at admission, so the oldest sequence always makes progress.
/// Owns sequences, stop matching and detokenising. Not thread-safe: one actor drives it. Time is passed in.
class batcher {
public:
    using time_point = std::chrono::steady_clock::time_point;

    batcher(const batch_options& options, token_bytes_function token_bytes);
    ~batcher();
    batcher(batcher&&) noexcept;
    batcher& operator=(batcher&&) noexcept;

    /// Errors: queue_full, prompt_too_long (context or KV pages can never hold it), duplicate_id.
    result<void> admit(generation_request request, time_point now);

    /// Stops a waiting or running request now; the row of a step in flight is ignored when it returns. Empty when the
    /// id is unknown (already finished).
    std::optional<sequence_output> cancel(request_id id, finish_reason reason, std::optional<error> why,
                                          time_point now);

    /// The next step, or nothing when there is no work or a step is in flight.
    std::shared_ptr<const step_plan> next_plan(time_point now);

    /// Applies the result of the step in flight; one output per request that moved. A failed step ends exactly the
    /// requests that had rows in it, with the step's error. Requests past their deadline end with deadline_exceeded.
    /// Every plan must be answered, with `failure` when its stream was lost: until then its pages stay taken and there
    /// is no next plan. An answer to another step is ignored.
    /// `verdict` on the drafts of this step; without one, or where it is not about a draft, they are judged here.
    std::vector<sequence_output> advance(const step_result& outcome, time_point now,
                                         const step_verdict* verdict = nullptr);

    /// The step in flight holds drafts.
    bool drafts_in_flight() const noexcept;

    /// Texts that the verifier shall follow or forget, in this order, before the step planned last; each is told of
    /// once. They are few: a text is followed once, when its sequence begins to decode.
    std::vector<follow_order> take_follow_orders();

    /// The verifier forgot everything: texts are to be followed again.
    void follow_again();

    /// Takes the proposals of a verdict that came after its step's result.
    void take_proposals(const step_verdict& verdict);

    /// Preempts up to `count` running sequences (newest first) before the next plan: for tests and for the stream's
    /// restart. Rows in flight are ignored: preempting everything, then answering the lost step with its failure, loses
    /// no request.
    void preempt(std::int32_t count);

    /// Ends everything with `why`. A step in flight must still be answered.
    std::vector<sequence_output> fail_all(const error& why, time_point now);

    bool idle() const noexcept;  ///< nothing waiting, running or in flight
    batch_statistics statistics() const;

private:
    struct impl;
    std::unique_ptr<impl> impl_;
};

}  // namespace moira
