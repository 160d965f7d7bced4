#pragma once

#include "core/base/error.hpp"
#include "core/batch/generation_input.hpp"
#include "core/batch/generation_request.hpp"
#include "core/text/chat_template.hpp"
#include "core/text/tokenizer.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <set>
#include <utility>

namespace moira {

/// What a request is checked against. Tokenizer and template may be absent: a checkpoint without them serves ids.
struct intake_rules {
    std::shared_ptr<const tokenizer> text;
    std::shared_ptr<const chat_template> chat;
    std::int32_t vocabulary = 0;
    std::int32_t context_max = 0;
    std::int32_t tokens_max_default = 256;
    sampling_parameters sampling_default;
    std::chrono::milliseconds timeout_default{0};  ///< 0: none
};

/// Checks, templates and tokenises one input. `id` becomes the request's. The prompt gets the model's BOS unless it came
/// as ids. Pure: any thread. Errors: invalid_argument (names the field), prompt_too_long, token_out_of_range,
/// invalid_utf8, unsupported (no tokenizer, no template).
result<generation_request> prepare_request(const generation_input& input, request_id id, const intake_rules& rules,
                                           std::chrono::steady_clock::time_point now);

/// Who has asked and is not yet with the batcher. Plain state of the intake actor. A request is named by its sink and
/// the number that the sink chose.
class intake_ledger {
public:
    using key = std::pair<std::uint64_t, std::uint64_t>;  ///< sink, tag

    explicit intake_ledger(std::size_t open_max) : open_max_(open_max) {}

    /// Errors: draining, queue_full, duplicate_id.
    result<request_id> accept(const key& who);

    /// True when the request is still here: it will be dropped by pass(). False: ask the batcher.
    bool cancel(const key& who);

    /// The request leaves. False when it was cancelled meanwhile.
    bool pass(const key& who);

    void drain() noexcept { draining_ = true; }
    bool draining() const noexcept { return draining_; }
    bool empty() const noexcept { return open_.empty(); }

private:
    std::size_t open_max_;
    std::uint64_t last_id_ = 0;
    bool draining_ = false;
    std::set<key> open_;
    std::set<key> cancelled_;
};

}  // namespace moira
