#pragma once

#include "core/batch/generation_request.hpp"
#include "core/batch/kv_pages.hpp"
#include "core/speculate/acceptance.hpp"
#include "core/speculate/draft_length.hpp"
#include "core/speculate/draft_verifier.hpp"
#include "core/speculate/source_choice.hpp"
#include "core/text/text_stream.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// One request's life inside the batcher: its tokens, how many of them are in the KV cache, its text so far, its times.
/// Knows nothing of other sequences. `pages` is filled and emptied by the batcher.
class sequence {
public:
    using time_point = std::chrono::steady_clock::time_point;

    /// `context_max`: tokens at which generation ends with `length`.
    sequence(generation_request request, std::int64_t context_max, time_point now);

    request_id id() const noexcept { return request_.id; }
    const generation_request& request() const noexcept { return request_; }
    const logits_hash& hash() const noexcept { return hash_; }
    std::span<const token_id> tokens() const noexcept { return tokens_; } ///< prompt, then emitted ones
    std::span<const token_id> computed_tokens() const noexcept {
        return tokens().first(static_cast<std::size_t>(computed_));
    }
    std::int64_t token_count() const noexcept { return std::ssize(tokens_); }
    std::int64_t computed() const noexcept { return computed_; } ///< leading tokens whose KV is present
    std::int64_t uncomputed() const noexcept { return token_count() - computed_; } ///< at least 1 while it lives
    bool preempted() const noexcept { return preemptions_ > 0; }
    std::int32_t cached_tokens() const noexcept { return cached_tokens_; }
    bool expired(time_point now) const noexcept { return request_.deadline && *request_.deadline <= now; }

    /// Enters the running set with `computed` tokens found in the prefix cache. True at the first start.
    bool start(std::int64_t computed, time_point now);

    /// Lost its pages: everything is to be computed again.
    void preempt() noexcept;

    void advance(std::int64_t rows) noexcept { computed_ += rows; }

    /// Takes a sampled token. `bytes`: its text; `end_token`: one of the model's, which has no text. The reason is set
    /// when generation ends with this token.
    struct acceptance {
        emitted_token emitted;
        std::optional<finish_reason> ended;
    };
    acceptance accept(token_id token, const logits_hash& hash, std::string_view bytes, bool end_token, time_point now);

    /// Ends it: releases held-back text into `output.tail_text` and moves everything known into `output.finished`.
    /// Called once.
    void finish(sequence_output& output, finish_reason reason, std::optional<error> why, time_point now);

    kv_pages::sequence_pages pages;

    /// What speculation knows of this sequence; filled and read by the batcher.
    struct drafting_state {
        draft_source source = draft_source::none;
        bool followed = false;    ///< by the verifier, as far as is known here
        draft_proposal proposal;  ///< the verifier's newest
        acceptance_estimate accepted;
        std::vector<token_id> offered; ///< by the model, to follow the tokens as they are now
        speculation_counts counts;
    };
    drafting_state drafting;

private:
    std::string release_text();
    void note_times(generation_result& ended, time_point now) const;

    generation_request request_;
    std::int64_t context_max_ = 0;
    std::vector<token_id> tokens_;
    std::int64_t computed_ = 0;
    std::int32_t cached_tokens_ = 0;
    std::int32_t preemptions_ = 0;
    logits_hash hash_;
    utf8_stream characters_;
    stop_matcher stops_;
    bool stopped_ = false; ///< a stop string was found: no more text
    std::string text_;
    time_point admitted_;
    std::optional<time_point> started_, first_token_, last_token_;
    std::vector<float> itl_ms_;
};

} // namespace moira
