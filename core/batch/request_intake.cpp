#include "core/batch/request_intake.hpp"

#include "core/text/text_stream.hpp"

#include <algorithm>
#include <limits>
#include <string>

namespace moira {

namespace {

/// Deadlines beyond a day are a mistake in the unit.
constexpr std::int64_t timeout_ms_max = 86'400'000;

result<std::vector<token_id>> check_ids(const std::vector<token_id>& ids, const intake_rules& rules) {
    if (ids.empty())
        return fail(errc::invalid_argument, "ids is empty; send at least one token");
    for (const auto id : ids)
        if (id < 0 || id >= rules.vocabulary)
            return fail(errc::token_out_of_range, "ids holds " + std::to_string(id) + "; this model has tokens 0 to " +
                                                      std::to_string(rules.vocabulary - 1));
    return ids;
}

result<std::vector<token_id>> encode(const std::string& prompt, const intake_rules& rules, tokenizer::special mode) {
    if (!rules.text)
        return fail(errc::unsupported, "this model has no tokenizer; send ids instead of text");
    auto ids = rules.text->encode(prompt, mode);
    if (ids && ids->empty())
        return fail(errc::invalid_argument, "the prompt is empty and the model has no begin-of-text token");
    return ids;
}

result<std::vector<token_id>> prompt_tokens(const generation_input& input, const intake_rules& rules) {
    const int given = input.prompt.has_value() + input.ids.has_value() + input.messages.has_value();
    if (given != 1)
        return fail(errc::invalid_argument, "exactly one of prompt, ids and messages is needed, found " + std::to_string(given));
    if (input.ids)
        return check_ids(*input.ids, rules);
    if (input.prompt)
        return encode(*input.prompt, rules, tokenizer::special::add);
    if (!rules.chat)
        return fail(errc::unsupported, "this model has no chat template; send a prompt instead of messages");
    if (input.messages->empty())
        return fail(errc::invalid_argument, "messages is empty; send at least one");
    auto text = rules.chat->render(*input.messages);
    if (!text)
        return tl::unexpected(text.error());
    // Templates write the begin-of-text token themselves.
    return encode(*text, rules, tokenizer::special::skip);
}

result<void> check_stops(const std::vector<std::string>& stops) {
    if (stops.size() > stop_matcher::stops_max)
        return fail(errc::invalid_argument, "stop holds " + std::to_string(stops.size()) + " strings, at most " +
                                                std::to_string(stop_matcher::stops_max) + " are allowed");
    for (const auto& stop : stops) {
        if (stop.empty() || stop.size() > stop_matcher::stop_bytes_max)
            return fail(errc::invalid_argument, "a stop string has " + std::to_string(stop.size()) + " bytes, expected 1 to " +
                                                    std::to_string(stop_matcher::stop_bytes_max));
        if (!is_utf8(stop))
            return fail(errc::invalid_utf8, "a stop string is not UTF-8");
    }
    return {};
}

result<sampling_parameters> sampling_of(const generation_input& input, const sampling_parameters& defaults) {
    auto sampling = defaults;
    sampling.temperature = input.temperature.value_or(defaults.temperature);
    sampling.top_p = input.top_p.value_or(defaults.top_p);
    sampling.min_p = input.min_p.value_or(defaults.min_p);
    sampling.repetition_penalty = input.repetition_penalty.value_or(defaults.repetition_penalty);
    sampling.seed = input.seed.value_or(defaults.seed);
    const auto top_k = input.top_k.value_or(defaults.top_k);
    if (top_k < 0 || top_k > std::numeric_limits<std::int32_t>::max())
        return fail(errc::invalid_argument, "top_k is " + std::to_string(top_k) + ", expected 0 (all) or more");
    sampling.top_k = static_cast<std::int32_t>(top_k);
    if (auto fine = check_sampling(sampling); !fine)
        return tl::unexpected(fine.error());
    return sampling;
}

result<std::optional<std::chrono::steady_clock::time_point>>
deadline_of(const generation_input& input, const intake_rules& rules, std::chrono::steady_clock::time_point now) {
    const auto timeout_ms = input.timeout_ms.value_or(rules.timeout_default.count());
    if (timeout_ms < 0 || timeout_ms > timeout_ms_max || (input.timeout_ms && timeout_ms == 0))
        return fail(errc::invalid_argument, "timeout_ms is " + std::to_string(timeout_ms) + ", expected 1 to " +
                                                std::to_string(timeout_ms_max));
    if (timeout_ms == 0)
        return std::nullopt;
    return now + std::chrono::milliseconds(timeout_ms);
}

}  // namespace

result<generation_request> prepare_request(const generation_input& input, request_id id, const intake_rules& rules,
                                           std::chrono::steady_clock::time_point now) {
    generation_request request;
    request.id = id;
    request.stop = input.stop;
    request.ignore_eos = input.ignore_eos;
    if (auto fine = check_stops(input.stop); !fine)
        return tl::unexpected(fine.error());
    auto sampling = sampling_of(input, rules.sampling_default);
    if (!sampling)
        return tl::unexpected(sampling.error());
    request.sampling = *sampling;
    auto deadline = deadline_of(input, rules, now);
    if (!deadline)
        return tl::unexpected(deadline.error());
    request.deadline = *deadline;
    const auto tokens_max = input.max_tokens.value_or(rules.tokens_max_default);
    if (tokens_max < 1)
        return fail(errc::invalid_argument, "max_tokens is " + std::to_string(tokens_max) + ", expected 1 or more");
    auto prompt = prompt_tokens(input, rules);
    if (!prompt)
        return tl::unexpected(prompt.error());
    const auto room = static_cast<std::int64_t>(rules.context_max) - static_cast<std::int64_t>(prompt->size());
    if (room < 1)
        return fail(errc::prompt_too_long, "the prompt has " + std::to_string(prompt->size()) +
                                               " tokens; with one to generate they exceed the context of " +
                                               std::to_string(rules.context_max));
    request.prompt = std::move(*prompt);
    request.tokens_max = static_cast<std::int32_t>(std::min(tokens_max, room));
    return request;
}

result<request_id> intake_ledger::accept(const key& who) {
    if (draining_)
        return fail(errc::draining, "the server is shutting down and takes no new requests");
    if (open_.size() >= open_max_)
        return fail(errc::queue_full, std::to_string(open_.size()) + " requests wait to be tokenised, which is the limit");
    if (!open_.insert(who).second)
        return fail(errc::duplicate_id, "a request with this number is already waiting");
    return request_id{++last_id_};
}

bool intake_ledger::cancel(const key& who) {
    if (!open_.contains(who))
        return false;
    cancelled_.insert(who);
    return true;
}

bool intake_ledger::pass(const key& who) {
    open_.erase(who);
    return cancelled_.erase(who) == 0;
}

}  // namespace moira
