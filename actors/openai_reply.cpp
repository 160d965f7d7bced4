#include "actors/openai_json.hpp"

#include <nlohmann/json.hpp>

namespace moira {

namespace {

using nlohmann::ordered_json;

bool is_chat(const openai_reply& reply) noexcept {
    return reply.endpoint == openai_endpoint::chat_completions;
}

ordered_json begin(const openai_reply& reply, bool chunk) {
    ordered_json value;
    value["id"] = reply.id;
    if (is_chat(reply))
        value["object"] = chunk ? "chat.completion.chunk" : "chat.completion";
    else
        value["object"] = "text_completion";
    value["created"] = reply.created_s;
    value["model"] = reply.model;
    return value;
}

ordered_json openai_usage_json(const generation_result& outcome) {
    return {{"prompt_tokens", outcome.prompt_tokens},
            {"completion_tokens", outcome.completion_tokens},
            {"total_tokens", std::int64_t{outcome.prompt_tokens} + outcome.completion_tokens},
            {"prompt_tokens_details", ordered_json{{"cached_tokens", outcome.cached_tokens}}}};
}

ordered_json chunk(const openai_reply& reply, ordered_json choice) {
    auto value = begin(reply, true);
    value["choices"] = ordered_json::array({std::move(choice)});
    if (reply.include_usage)
        value["usage"] = nullptr;
    return value;
}

ordered_json choice_of(ordered_json content, const char* name, ordered_json reason) {
    ordered_json choice;
    choice["index"] = 0;
    choice[name] = std::move(content);
    choice["logprobs"] = nullptr;
    choice["finish_reason"] = std::move(reason);
    return choice;
}

} // namespace

ordered_json openai_reply_json(const openai_reply& reply, const generation_result& outcome, ordered_json moira) {
    auto value = begin(reply, false);
    const auto reason = finish_reason_name(outcome.reason);
    if (is_chat(reply)) {
        ordered_json message{{"role", "assistant"}, {"content", outcome.text}, {"refusal", nullptr}};
        value["choices"] = ordered_json::array({choice_of(std::move(message), "message", reason)});
    } else {
        value["choices"] = ordered_json::array({choice_of(outcome.text, "text", reason)});
    }
    value["usage"] = openai_usage_json(outcome);
    value["moira"] = std::move(moira);
    return value;
}

ordered_json openai_chunk_json(const openai_reply& reply, std::string_view text, bool first) {
    if (!is_chat(reply))
        return chunk(reply, choice_of(text, "text", nullptr));
    ordered_json delta = ordered_json::object();
    if (first)
        delta["role"] = "assistant";
    delta["content"] = text;
    return chunk(reply, choice_of(std::move(delta), "delta", nullptr));
}

ordered_json openai_finish_chunk_json(const openai_reply& reply, finish_reason reason) {
    const auto name = finish_reason_name(reason);
    if (!is_chat(reply))
        return chunk(reply, choice_of("", "text", name));
    return chunk(reply, choice_of(ordered_json::object(), "delta", name));
}

ordered_json openai_usage_chunk_json(const openai_reply& reply, const generation_result& outcome) {
    auto value = begin(reply, true);
    value["choices"] = ordered_json::array();
    value["usage"] = openai_usage_json(outcome);
    return value;
}

ordered_json openai_model_json(const runtime_identity& identity, std::int64_t created_s) {
    return {{"id", identity.model},
            {"object", "model"},
            {"created", created_s},
            {"owned_by", "moira"},
            {"context_length", identity.context_max},
            {"max_model_len", identity.context_max}};
}

ordered_json tokenize_json(const text_answer& answer, const runtime_identity& identity) {
    return {{"token_ids", answer.ids},
            {"tokens", answer.ids},
            {"count", answer.ids.size()},
            {"max_model_len", identity.context_max}};
}

ordered_json detokenize_json(const text_answer& answer) {
    return {{"text", answer.text}, {"prompt", answer.text}};
}

} // namespace moira
