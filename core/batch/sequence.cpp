#include "core/batch/sequence.hpp"

#include <utility>

namespace moira {

namespace {

double seconds(std::chrono::steady_clock::duration time) noexcept {
    return std::chrono::duration<double>(time).count();
}

} // namespace

sequence::sequence(generation_request request, std::int64_t context_max, time_point now)
    : request_(std::move(request)), context_max_(context_max), tokens_(request_.prompt), stops_(request_.stop),
      admitted_(now) {}

bool sequence::start(std::int64_t computed, time_point now) {
    computed_ = computed;
    if (started_)
        return false;
    started_ = now;
    cached_tokens_ = static_cast<std::int32_t>(computed);
    return true;
}

void sequence::preempt() noexcept {
    computed_ = 0;
    ++preemptions_;
    drafting.offered.clear();
}

sequence::acceptance sequence::accept(token_id token, const logits_hash& hash, std::string_view bytes, bool end_token,
                                      time_point now) {
    tokens_.push_back(token);
    hash_ = hash;
    if (!first_token_)
        first_token_ = now;
    else if (itl_ms_.size() < generation_result::itl_samples_max)
        itl_ms_.push_back(static_cast<float>(seconds(now - *last_token_) * 1e3));
    last_token_ = now;

    acceptance outcome{{token, {}}, {}};
    if (end_token && !request_.ignore_eos) {
        outcome.ended = finish_reason::stop;
        return outcome;
    }
    auto shown = stops_.push(characters_.push(bytes));
    stopped_ = shown.stopped;
    text_ += shown.text;
    outcome.emitted.text = std::move(shown.text);
    const std::int64_t emitted = token_count() - std::ssize(request_.prompt);
    if (stopped_)
        outcome.ended = finish_reason::stop;
    else if (emitted >= request_.tokens_max || token_count() >= context_max_)
        outcome.ended = finish_reason::length;
    return outcome;
}

std::string sequence::release_text() {
    if (stopped_)
        return {};
    auto rest = stops_.push(characters_.finish());
    if (!rest.stopped)
        rest.text += stops_.finish();
    return std::move(rest.text);
}

void sequence::note_times(generation_result& ended, time_point now) const {
    const time_point started = started_.value_or(now);
    ended.queue_s = seconds(started - admitted_);
    ended.prefill_s = seconds(first_token_.value_or(now) - started);
    if (!first_token_)
        return;
    ended.ttft_s = seconds(*first_token_ - admitted_);
    ended.decode_s = seconds(*last_token_ - *first_token_);
}

void sequence::finish(sequence_output& output, finish_reason reason, std::optional<error> why, time_point now) {
    output.id = id();
    output.tail_text = release_text();
    text_ += output.tail_text;
    generation_result& ended = output.finished.emplace();
    ended.reason = reason;
    ended.failure = std::move(why);
    ended.text = std::move(text_);
    ended.token_ids.assign(tokens_.begin() + std::ssize(request_.prompt), tokens_.end());
    ended.prompt_tokens = static_cast<std::int32_t>(request_.prompt.size());
    ended.completion_tokens = static_cast<std::int32_t>(ended.token_ids.size());
    ended.cached_tokens = cached_tokens_;
    ended.logits_hash = hash_.hex();
    ended.seed = request_.sampling.seed;
    ended.preemptions = preemptions_;
    ended.speculation = drafting.counts;
    ended.itl_ms = std::move(itl_ms_);
    note_times(ended, now);
}

} // namespace moira
