#include "core/batch/batcher.hpp"

#include "core/batch/flying_chunk.hpp"
#include "core/batch/sequence.hpp"
#include "core/batch/step_builder.hpp"
#include "core/batch/step_drafts.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <string>
#include <utility>

namespace moira {

namespace {

using sequence_pointer = std::unique_ptr<sequence>;

/// Ended requests that a plan names: whoever keeps things by request and misses one must bound them anyway.
constexpr std::size_t ended_told_max = 256;

batch_options within_bounds(batch_options options) {
    options.step_tokens_max = std::max(options.step_tokens_max, 1);
    options.chunk_tokens_max = std::max(options.chunk_tokens_max, 1);
    // Every running sequence can decode in every step, so nobody starves.
    options.sequences_max = std::clamp(options.sequences_max, 1, options.step_tokens_max);
    if (options.context_max <= 0)
        options.context_max = std::numeric_limits<std::int32_t>::max();
    return options;
}

error deadline_error() {
    return {errc::deadline_exceeded, "the request's deadline passed before it was finished"};
}

} // namespace

struct batcher::impl {
    batch_options limits;
    token_bytes_function token_bytes;
    kv_pages pages;
    draft_planner drafts;
    // Every waiting sequence was admitted after every running one: joining is first come, first served, and the newest
    // running sequence is preempted to the front of the queue.
    std::deque<sequence_pointer> waiting;
    std::vector<sequence_pointer> running;
    std::vector<flying_chunk> flying;
    bool in_flight = false;
    std::uint64_t number = 0;       ///< of the newest step
    std::int32_t rows_decoding = 0; ///< of the newest step, drafts included; 0: it has prompt rows too
    batch_statistics counts;
    std::vector<follow_order> orders;
    std::vector<request_id> ended_ids; ///< since the newest plan; at most ended_told_max

    impl(const batch_options& options, token_bytes_function bytes)
        : limits(within_bounds(options)), token_bytes(std::move(bytes)), pages(limits.kv), drafts(limits.speculation) {}

    result<void> check(const generation_request& request) const;
    bool known(request_id id) const;

    std::vector<std::int32_t> share_rows() const;
    bool reserve_pages(std::vector<std::int32_t>& rows);
    void join(std::vector<std::int32_t>& rows, time_point now);
    bool join_next(std::int32_t budget, std::vector<std::int32_t>& rows, time_point now);
    draft_planner::room room_left(const std::vector<std::int32_t>& rows) const;
    std::shared_ptr<const step_plan> launch(const std::vector<std::int32_t>& rows);

    void drop_pages(sequence& leaving);
    void preempt_newest();
    void settle(flying_chunk& chunk, const step_result& outcome, const step_verdict* verdict, time_point now,
                std::vector<sequence_output>& out);
    sequence_output apply_samples(const flying_chunk& chunk, const step_result& outcome, const step_verdict* verdict,
                                  time_point now);
    void follow(sequence& owner);
    void forget(sequence& owner);
    void end(sequence& ending, sequence_output& output, finish_reason reason, std::optional<error> why, time_point now);
    void end_expired(time_point now, std::vector<sequence_output>& out);
    void remove(const sequence& ended);
    void count_end(finish_reason reason);
};

// ---- requests in ---------------------------------------------------------------------------------------------------

result<void> batcher::impl::check(const generation_request& request) const {
    const std::int64_t prompt = std::ssize(request.prompt);
    if (prompt == 0 || request.tokens_max < 1)
        return fail(errc::invalid_argument, "a request needs a prompt of at least one token and tokens_max of at "
                                            "least 1; found " +
                                                std::to_string(prompt) + " and " + std::to_string(request.tokens_max));
    const std::int64_t context_max = limits.context_max;
    if (prompt + 1 > context_max)
        return fail(errc::prompt_too_long, "the prompt has " + std::to_string(prompt) +
                                               " tokens; with one new token it exceeds the context of " +
                                               std::to_string(context_max) + " tokens: shorten it");
    const std::int64_t tokens = std::min(prompt + request.tokens_max, context_max);
    const std::int64_t size = pages.page_tokens();
    const std::int64_t needed = (tokens + size - 1) / size;
    if (needed > pages.pages_total())
        return fail(errc::prompt_too_long, std::to_string(prompt) + " prompt tokens and " +
                                               std::to_string(tokens - prompt) + " new ones need " +
                                               std::to_string(needed) + " KV pages of " + std::to_string(size) +
                                               " tokens; there are " + std::to_string(pages.pages_total()) +
                                               ": shorten the prompt, ask for fewer tokens, or enlarge the KV cache");
    return {};
}

bool batcher::impl::known(request_id id) const {
    const auto same = [id](const sequence_pointer& each) { return each->id() == id; };
    return std::any_of(running.begin(), running.end(), same) || std::any_of(waiting.begin(), waiting.end(), same);
}

result<void> batcher::admit(generation_request request, time_point now) {
    impl& self = *impl_;
    if (self.known(request.id))
        return fail(errc::duplicate_id, "request " + std::to_string(request.id.value) + " is already running");
    if (auto checked = self.check(request); !checked)
        return checked;
    if (std::ssize(self.waiting) >= self.limits.queue_max)
        return fail(errc::queue_full,
                    std::to_string(self.waiting.size()) + " requests are waiting, which is the limit: try again later");
    self.waiting.push_back(std::make_unique<sequence>(std::move(request), self.limits.context_max, now));
    ++self.counts.admitted;
    return {};
}

// ---- step plans out ------------------------------------------------------------------------------------------------

/// Rows of the next step per running sequence: one for each that decodes, then prompt chunks, oldest first.
std::vector<std::int32_t> batcher::impl::share_rows() const {
    std::vector<std::int32_t> rows(running.size());
    std::int64_t budget = limits.step_tokens_max;
    for (std::size_t i = 0; i < running.size(); ++i)
        if (running[i]->uncomputed() == 1) {
            rows[i] = 1;
            --budget;
        }
    for (std::size_t i = 0; i < running.size(); ++i)
        if (rows[i] == 0) {
            const std::int64_t chunk = std::min<std::int64_t>(limits.chunk_tokens_max, budget);
            rows[i] = static_cast<std::int32_t>(std::min(running[i]->uncomputed(), chunk));
            budget -= rows[i];
        }
    return rows;
}

/// Gives every row a slot, oldest sequence first, at the newest ones' expense. False when somebody was preempted.
bool batcher::impl::reserve_pages(std::vector<std::int32_t>& rows) {
    const std::size_t before = running.size();
    for (std::size_t i = 0; i < running.size(); ++i)
        while (i < running.size() && !pages.grow(running[i]->pages, running[i]->computed() + rows[i]))
            preempt_newest();
    rows.resize(running.size());
    return running.size() == before;
}

void batcher::impl::join(std::vector<std::int32_t>& rows, time_point now) {
    std::int32_t budget = limits.step_tokens_max;
    for (const std::int32_t used : rows)
        budget -= used;
    while (!waiting.empty() && std::ssize(running) < limits.sequences_max && budget > 0) {
        if (!join_next(budget, rows, now))
            return;
        budget -= rows.back();
    }
}

/// Starts the first waiting sequence if its pages can be had.
bool batcher::impl::join_next(std::int32_t budget, std::vector<std::int32_t>& rows, time_point now) {
    sequence& next = *waiting.front();
    kv_pages::sequence_pages taken = pages.start(next.tokens());
    const std::int64_t computed = std::ssize(taken.pages) * pages.page_tokens();
    const std::int64_t chunk = std::min(limits.chunk_tokens_max, budget);
    const std::int64_t count = std::min(next.token_count() - computed, chunk);
    // One that was preempted waits for all its room, so that it does not return only to be preempted again.
    if (!pages.grow(taken, next.preempted() ? next.token_count() : computed + count)) {
        pages.release(taken);
        return false;
    }
    if (next.start(computed, now)) {
        next.drafting.source = drafts.source_of_new();
        counts.prompt_tokens += next.request().prompt.size();
        counts.cached_tokens += static_cast<std::uint64_t>(computed);
    }
    next.pages = std::move(taken);
    rows.push_back(static_cast<std::int32_t>(count));
    running.push_back(std::move(waiting.front()));
    waiting.pop_front();
    return true;
}

draft_planner::room batcher::impl::room_left(const std::vector<std::int32_t>& rows) const {
    draft_planner::room left{limits.step_tokens_max, limits.chunk_tokens_max, limits.context_max};
    for (const std::int32_t used : rows)
        left.rows_free -= used;
    return left;
}

/// Decode rows come first in the step, prompt chunks after them.
std::shared_ptr<const step_plan> batcher::impl::launch(const std::vector<std::int32_t>& rows) {
    const auto left = room_left(rows);
    auto drafted = drafts.plan(running, rows, left, pages);
    std::vector<step_chunk> chunks;
    std::size_t drafted_rows = 0;
    bool decoding = true, to_verify = false;
    for (std::size_t i = 0; i < running.size(); ++i)
        if (rows[i] > 0) {
            step_chunk& chunk = chunks.emplace_back(step_chunk{running[i].get(), rows[i], {}, {}});
            chunk.offer_max = drafts.offer_max(*running[i], rows[i], drafted[i].size(), left, pages);
            flying.push_back(
                {running[i].get(), rows[i], chunk.samples(), std::move(drafted[i]), {}, running[i]->uncomputed() == 1});
            drafted_rows += flying.back().draft.size();
            if (flying.back().samples)
                follow(*running[i]);
            to_verify = to_verify || running[i]->drafting.followed || !flying.back().draft.empty();
            decoding = decoding && rows[i] == 1;
        }
    if (chunks.empty())
        return nullptr;
    for (std::size_t i = 0; i < chunks.size(); ++i)
        chunks[i].draft = flying[i].draft;
    std::stable_partition(chunks.begin(), chunks.end(),
                          [](const step_chunk& chunk) { return chunk.owner->uncomputed() == 1; });
    auto plan = std::make_shared<step_plan>(build_step(++number, chunks, pages.page_tokens()));
    plan->to_verify = to_verify;
    plan->holds_drafts = drafted_rows > 0;
    plan->ended = std::exchange(ended_ids, {});
    in_flight = true;
    rows_decoding = decoding ? plan->rows() : 0;
    ++counts.steps;
    counts.rows += static_cast<std::uint64_t>(plan->rows()) - drafted_rows;
    return plan;
}

std::shared_ptr<const step_plan> batcher::next_plan(time_point now) {
    impl& self = *impl_;
    if (self.in_flight)
        return nullptr;
    std::vector<std::int32_t> rows = self.share_rows();
    // Nobody joins a step that somebody had to leave.
    if (self.reserve_pages(rows))
        self.join(rows, now);
    return self.launch(rows);
}

// ---- leaving -------------------------------------------------------------------------------------------------------

void batcher::impl::drop_pages(sequence& leaving) {
    forget(leaving);
    for (flying_chunk& chunk : flying)
        if (chunk.owner == &leaving) {
            chunk.owner = nullptr;
            chunk.orphaned = std::exchange(leaving.pages, {});
            return;
        }
    pages.release(leaving.pages);
}

void batcher::impl::preempt_newest() {
    sequence_pointer newest = std::move(running.back());
    running.pop_back();
    drop_pages(*newest);
    newest->preempt();
    waiting.push_front(std::move(newest));
    ++counts.preemptions;
}

void batcher::preempt(std::int32_t count) {
    for (; count > 0 && !impl_->running.empty(); --count)
        impl_->preempt_newest();
}

void batcher::impl::count_end(finish_reason reason) {
    if (reason == finish_reason::cancelled)
        ++counts.cancelled;
    else if (reason == finish_reason::error)
        ++counts.failed;
    else
        ++counts.finished;
}

void batcher::impl::remove(const sequence& ended) {
    const auto same = [&](const sequence_pointer& each) { return each.get() == &ended; };
    if (std::erase_if(running, same) == 0)
        std::erase_if(waiting, same);
}

/// `ending` is gone afterwards.
void batcher::impl::end(sequence& ending, sequence_output& output, finish_reason reason, std::optional<error> why,
                        time_point now) {
    ending.finish(output, reason, std::move(why), now);
    drop_pages(ending);
    if (ended_ids.size() < ended_told_max)
        ended_ids.push_back(ending.id());
    count_end(reason);
    remove(ending);
}

std::optional<sequence_output> batcher::cancel(request_id id, finish_reason reason, std::optional<error> why,
                                               time_point now) {
    impl& self = *impl_;
    const auto same = [id](const sequence_pointer& each) { return each->id() == id; };
    sequence* found = nullptr;
    if (const auto at = std::find_if(self.running.begin(), self.running.end(), same); at != self.running.end())
        found = at->get();
    else if (const auto queued = std::find_if(self.waiting.begin(), self.waiting.end(), same);
             queued != self.waiting.end())
        found = queued->get();
    if (found == nullptr)
        return std::nullopt;
    std::optional<sequence_output> output(std::in_place);
    self.end(*found, *output, reason, std::move(why), now);
    return output;
}

std::vector<sequence_output> batcher::fail_all(const error& why, time_point now) {
    impl& self = *impl_;
    std::vector<sequence_output> outputs;
    while (!self.running.empty())
        self.end(*self.running.front(), outputs.emplace_back(), finish_reason::error, why, now);
    while (!self.waiting.empty())
        self.end(*self.waiting.front(), outputs.emplace_back(), finish_reason::error, why, now);
    return outputs;
}

// ---- results in ----------------------------------------------------------------------------------------------------

/// Texts are followed from the first sample on; the order goes out before the step that samples.
void batcher::impl::follow(sequence& owner) {
    if (owner.drafting.source != draft_source::ngram || owner.drafting.followed)
        return;
    owner.drafting.followed = true;
    orders.push_back({owner.id(), {owner.tokens().begin(), owner.tokens().end()}});
}

void batcher::impl::forget(sequence& owner) {
    if (std::exchange(owner.drafting.followed, false))
        orders.push_back({owner.id(), {}});
    owner.drafting.proposal = {};
}

/// Takes the token behind the sequence's last one, and one more for each drafted token that was right: each as if it
/// were a step of its own, so that nothing of the sequence tells whether it was drafted.
sequence_output batcher::impl::apply_samples(const flying_chunk& chunk, const step_result& outcome,
                                             const step_verdict* verdict, time_point now) {
    sequence& owner = *chunk.owner;
    sequence_output output;
    output.id = owner.id();
    const auto samples = samples_of(owner.id(), chunk.draft.size() + 1, limits.vocabulary, outcome);
    if (!samples) {
        end(owner, output, finish_reason::error, samples.error(), now);
        return output;
    }
    std::vector<token_id> sampled;
    for (const sampled_token& each : *samples)
        sampled.push_back(each.token);
    const draft_verdict* judged = verdict == nullptr ? nullptr : verdict->find(owner.id());
    const std::size_t accepted = judged == nullptr || judged->accepted > chunk.draft.size()
                                     ? count_accepted(chunk.draft, sampled)
                                     : judged->accepted;
    if (!chunk.draft.empty()) {
        owner.drafting.accepted.note(chunk.draft.size(), accepted);
        owner.drafting.counts.add(chunk.draft.size(), accepted);
        counts.speculation.add(chunk.draft.size(), accepted);
    }
    if (owner.drafting.source == draft_source::model && owner.drafting.offered.size() > chunk.draft.size())
        counts.dropped_drafts += owner.drafting.offered.size() - chunk.draft.size();
    owner.drafting.offered = offer_to(owner.id(), limits.vocabulary, outcome);
    for (std::size_t i = 0; i <= accepted; ++i) {
        if (i > 0) {
            owner.advance(1);
            pages.computed(owner.pages, owner.computed_tokens());
            ++counts.rows;
        }
        const token_id token = sampled[i];
        const bool end_token = std::find(limits.eos.begin(), limits.eos.end(), token) != limits.eos.end();
        const std::string_view bytes = token_bytes ? token_bytes(token) : std::string_view{};
        auto taken = owner.accept(token, (*samples)[i].hash, bytes, end_token, now);
        ++counts.completion_tokens;
        output.tokens.push_back(std::move(taken.emitted));
        if (taken.ended) {
            end(owner, output, *taken.ended, std::nullopt, now);
            return output;
        }
    }
    if (drafts.on())
        pages.shrink(owner.pages, owner.computed());
    if (owner.expired(now))
        end(owner, output, finish_reason::error, deadline_error(), now);
    return output;
}

void batcher::impl::settle(flying_chunk& chunk, const step_result& outcome, const step_verdict* verdict, time_point now,
                           std::vector<sequence_output>& out) {
    if (chunk.owner == nullptr) {
        pages.release(chunk.orphaned);
        return;
    }
    sequence& owner = *chunk.owner;
    if (outcome.failure && !chunk.failed)
        return; // the next step computes its rows again
    if (outcome.failure) {
        end(owner, out.emplace_back(), finish_reason::error, outcome.failure, now);
        return;
    }
    owner.advance(chunk.rows);
    pages.computed(owner.pages, owner.computed_tokens());
    if (chunk.samples)
        out.push_back(apply_samples(chunk, outcome, verdict, now));
}

void batcher::impl::end_expired(time_point now, std::vector<sequence_output>& out) {
    std::vector<sequence*> expired;
    for (const sequence_pointer& each : running)
        if (each->expired(now))
            expired.push_back(each.get());
    for (const sequence_pointer& each : waiting)
        if (each->expired(now))
            expired.push_back(each.get());
    for (sequence* each : expired)
        end(*each, out.emplace_back(), finish_reason::error, deadline_error(), now);
}

std::vector<sequence_output> batcher::advance(const step_result& outcome, time_point now, const step_verdict* verdict) {
    impl& self = *impl_;
    std::vector<sequence_output> outputs;
    if (self.in_flight && outcome.number == self.number) {
        self.in_flight = false;
        self.drafts.note_draft(outcome.draft_pass_s);
        std::vector<flying_chunk> landed = std::exchange(self.flying, {});
        mark_failed(landed, outcome);
        for (flying_chunk& chunk : landed)
            self.settle(chunk, outcome, verdict, now, outputs);
        std::size_t tokens = 0;
        for (const auto& each : outputs)
            tokens += each.tokens.size();
        if (self.rows_decoding > 0 && !outcome.failure)
            self.drafts.note_step(self.rows_decoding, static_cast<double>(tokens), outcome.compute_s);
        self.counts.draft_failures += outcome.drafting_failed;
        if (verdict != nullptr)
            take_proposals(*verdict);
    }
    self.end_expired(now, outputs);
    return outputs;
}

// ---- the verifier --------------------------------------------------------------------------------------------------

bool batcher::drafts_in_flight() const noexcept {
    return std::any_of(impl_->flying.begin(), impl_->flying.end(),
                       [](const flying_chunk& each) { return each.owner != nullptr && !each.draft.empty(); });
}

std::vector<follow_order> batcher::take_follow_orders() {
    return std::exchange(impl_->orders, {});
}

void batcher::follow_again() {
    impl_->orders.clear();
    for (const sequence_pointer& each : impl_->running)
        each->drafting.followed = false;
}

void batcher::take_proposals(const step_verdict& verdict) {
    for (const sequence_pointer& each : impl_->running)
        if (const auto* judged = verdict.find(each->id()); judged != nullptr && each->drafting.followed) {
            each->drafting.followed = judged->followed;
            each->drafting.proposal = judged->proposal;
        }
}

// ---- the rest ------------------------------------------------------------------------------------------------------

batcher::batcher(const batch_options& options, token_bytes_function token_bytes)
    : impl_(std::make_unique<impl>(options, std::move(token_bytes))) {}

batcher::~batcher() = default;
batcher::batcher(batcher&&) noexcept = default;
batcher& batcher::operator=(batcher&&) noexcept = default;

bool batcher::idle() const noexcept {
    return impl_->waiting.empty() && impl_->running.empty() && !impl_->in_flight;
}

batch_statistics batcher::statistics() const {
    batch_statistics now = impl_->counts;
    now.waiting = static_cast<std::int32_t>(impl_->waiting.size());
    now.running = static_cast<std::int32_t>(impl_->running.size());
    now.pages_free = impl_->pages.pages_free();
    now.pages_total = impl_->pages.pages_total();
    return now;
}

} // namespace moira
