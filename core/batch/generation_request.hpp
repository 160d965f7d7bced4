#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/sample/sampler.hpp"
#include "core/speculate/acceptance.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// A validated request, ready to be batched: ids are inside the vocabulary, prompt plus one token fits the context.
struct generation_request {
    request_id id;
    std::vector<token_id> prompt;
    std::int32_t tokens_max = 0;  ///< new tokens, at least 1; intake has cut it to the context
    sampling_parameters sampling;
    std::vector<std::string> stop;
    bool ignore_eos = false;
    std::optional<std::chrono::steady_clock::time_point> deadline;
};

enum class finish_reason { stop, length, cancelled, error };
std::string_view finish_reason_name(finish_reason reason) noexcept;  ///< "stop", "length", "cancelled", "error"

/// One emitted token. `text` is what became showable with it (may be empty: incomplete character, possible stop string).
struct emitted_token {
    token_id token = 0;
    std::string text;
};

/// How a request ended, and everything about it.
struct generation_result {
    finish_reason reason = finish_reason::error;
    std::optional<error> failure;  ///< set when reason is error
    std::string text;              ///< all of it; equals the concatenated texts
    std::vector<token_id> token_ids;  ///< emitted ones, the end token included
    std::int32_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
    std::string logits_hash;       ///< hex
    std::uint64_t seed = 0;
    std::int32_t preemptions = 0;
    speculation_counts speculation;
    // Times of this request, seconds on the steady clock.
    double queue_s = 0, ttft_s = 0, prefill_s = 0, decode_s = 0;
    std::vector<float> itl_ms;     ///< between emitted tokens, at most itl_samples_max of them
    static constexpr std::size_t itl_samples_max = 4'096;
};

/// What one step (or a cancel) tells about one request. Texts of all outputs concatenate to the final text.
struct sequence_output {
    request_id id;
    std::vector<emitted_token> tokens;
    std::string tail_text;  ///< text released by the end itself (held-back characters), before `finished`
    std::optional<generation_result> finished;
};

}  // namespace moira
