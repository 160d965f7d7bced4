#include "actors/openai_json.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace moira {

namespace {

using nlohmann::json;

/// A field of OpenAI's that this server cannot serve, and whether a value of it asks for nothing.
struct refused_field {
    std::string_view name;
    bool (*asks_nothing)(const json& value);
};

bool is_false(const json& value) {
    return value == false;
}
bool is_zero(const json& value) {
    return value.is_number() && value.get<double>() == 0.0;
}
bool is_one(const json& value) {
    return value.is_number_integer() && value == 1;
}
bool is_empty(const json& value) {
    return (value.is_array() || value.is_object()) && value.empty();
}
bool is_no_choice(const json& value) {
    return value == "none" || value == "auto";
}
bool never(const json&) {
    return false;
}

constexpr std::array refused_fields{
    refused_field{"n", is_one},
    refused_field{"best_of", is_one},
    refused_field{"logprobs", is_false},
    refused_field{"top_logprobs", is_zero},
    refused_field{"echo", is_false},
    refused_field{"suffix", [](const json& value) { return value == ""; }},
    refused_field{"logit_bias", is_empty},
    refused_field{"presence_penalty", is_zero},
    refused_field{"frequency_penalty", is_zero},
    refused_field{"response_format",
                  [](const json& value) {
                      return value.is_object() && value.size() == 1 && value.contains("type") &&
                             value["type"] == "text";
                  }},
    refused_field{"tools", is_empty},
    refused_field{"tool_choice", is_no_choice},
    refused_field{"functions", is_empty},
    refused_field{"function_call", is_no_choice},
    refused_field{"modalities", [](const json& value) { return value == json::array({"text"}); }},
    refused_field{"audio", never},
    refused_field{"prediction", never},
    refused_field{"reasoning_effort", never},
    refused_field{"web_search_options", never},
    refused_field{"store", is_false},
    refused_field{"service_tier", [](const json& value) { return value == "auto" || value == "default"; }},
};

tl::unexpected<error> wrong(const std::string& field, std::string_view expected) {
    return fail(errc::invalid_argument, "`" + field + "` must be " + std::string(expected));
}

tl::unexpected<error> not_served(const std::string& field, std::string_view instead) {
    return fail(errc::unsupported, "`" + field + "` is not in this version; " + std::string(instead));
}

/// The texts of a list of parts, one after the other.
result<std::string> text_of_parts(const json& parts, const std::string& name) {
    std::string text;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const auto label = name + "[" + std::to_string(i) + "]";
        const auto& part = parts[i];
        if (!part.is_object() || !part.contains("type") || !part["type"].is_string())
            return wrong(label, "an object with `type` and `text`");
        if (part["type"] != "text")
            return not_served(label + ".type", "only parts of type text are");
        const auto found = part.find("text");
        if (found == part.end() || !found->is_string())
            return wrong(label + ".text", "a string");
        text += found->get_ref<const std::string&>();
    }
    return text;
}

/// A message with `content` as one string and without what is null.
result<json> plain_message(const json& message, std::size_t index) {
    if (!message.is_object())
        return message; // refused where types are
    const auto name = "messages[" + std::to_string(index) + "]";
    constexpr std::array<std::string_view, 4> of_tools{"tool_calls", "tool_call_id", "function_call", "audio"};
    json plain = json::object();
    for (const auto& [key, value] : message.items()) {
        const bool tool = std::find(of_tools.begin(), of_tools.end(), key) != of_tools.end();
        if (value.is_null() || (tool && is_empty(value)))
            continue;
        if (tool)
            return not_served(name + "." + key, "leave it out");
        if (key == "content" && value.is_array()) {
            auto text = text_of_parts(value, name + ".content");
            if (!text)
                return tl::unexpected<error>(std::move(text.error()));
            plain[key] = std::move(*text);
        } else {
            plain[key] = value;
        }
    }
    return plain;
}

result<json> plain_messages(const json& messages) {
    if (!messages.is_array())
        return messages;
    json plain = json::array();
    for (const auto& message : messages) {
        auto one = plain_message(message, plain.size());
        if (!one)
            return one;
        plain.push_back(std::move(*one));
    }
    return plain;
}

/// A prompt may be a text, ids, or a list of either; served is one.
result<void> take_prompt(const json& prompt, json& request) {
    if (!prompt.is_array() || prompt.empty()) {
        request["prompt"] = prompt;
        return {};
    }
    if (prompt.front().is_number()) {
        request["ids"] = prompt;
        return {};
    }
    if (prompt.size() > 1)
        return fail(errc::unsupported, "`prompt` holds " + std::to_string(prompt.size()) +
                                           " prompts; this version takes one, send a request for each");
    request[prompt.front().is_array() ? "ids" : "prompt"] = prompt.front();
    return {};
}

/// What is read here and not by read_request.
struct own_fields {
    bool include_usage = false, stream_options = false;
    std::vector<std::string> ignored;
};

result<void> take_stream_options(const json& options, own_fields& own) {
    if (!options.is_object())
        return wrong("stream_options", "an object");
    own.stream_options = true;
    for (const auto& [key, value] : options.items()) {
        if (value.is_null())
            continue;
        if (key != "include_usage") {
            own.ignored.push_back("stream_options." + key);
            continue;
        }
        if (!value.is_boolean())
            return wrong("stream_options.include_usage", "true or false");
        own.include_usage = value.get<bool>();
    }
    return {};
}

/// Moves one member of OpenAI's request to ours. `chat` says which prompt belongs here.
result<void> take_member(const std::string& name, const json& value, bool chat, std::string_view model, json& request,
                         own_fields& own) {
    const auto* const row = std::find_if(refused_fields.begin(), refused_fields.end(),
                                         [&](const refused_field& each) { return each.name == name; });
    if (row != refused_fields.end()) {
        if (row->asks_nothing(value))
            return {};
        return not_served(name, "leave it out");
    }
    if (name == "model") {
        if (!value.is_string())
            return wrong(name, "a string");
        if (value != model)
            return fail(errc::not_found, "`model` names one that is not served; this server has \"" +
                                             std::string(model) + "\", see /v1/models");
        return {};
    }
    if (name == "stream_options")
        return take_stream_options(value, own);
    if (name == "messages" ? !chat : chat && (name == "prompt" || name == "ids"))
        return fail(errc::invalid_argument, "`" + name + "` does not belong here; send " +
                                                (chat ? "`messages`" : "`prompt`, or use /v1/chat/completions"));
    if (name == "prompt")
        return take_prompt(value, request);
    if (name == "messages") {
        auto plain = plain_messages(value);
        if (!plain)
            return tl::unexpected<error>(std::move(plain.error()));
        request[name] = std::move(*plain);
        return {};
    }
    const auto target = name == "max_completion_tokens" ? std::string("max_tokens") : name;
    if (request.contains(target) && request[target] != value)
        return fail(errc::invalid_argument, "`max_completion_tokens` and `max_tokens` contradict each other; send one");
    request[target] = value;
    return {};
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
    if (const auto at = text.find(what); at != std::string::npos)
        text.replace(at, what.size(), with);
    return text;
}

} // namespace

result<openai_request> read_openai_request(const json& object, openai_endpoint endpoint, std::string_view model) {
    const bool chat = endpoint == openai_endpoint::chat_completions;
    json request = json::object();
    own_fields own;
    for (const auto& [name, value] : object.items()) {
        if (value.is_null())
            continue;
        if (auto taken = take_member(name, value, chat, model, request, own); !taken)
            return tl::unexpected<error>(std::move(taken.error()));
    }
    if (chat && !request.contains("messages"))
        return fail(errc::invalid_argument, "`messages` is missing");
    if (!chat && !request.contains("prompt") && !request.contains("ids"))
        return fail(errc::invalid_argument, "`prompt` is missing");
    auto fields = read_request(request, unknown_field_policy::collect);
    if (!fields) {
        auto why = std::move(fields.error());
        if (!object.contains("ids"))
            why.message = replaced(std::move(why.message), "`ids", "`prompt");
        if (object.contains("max_completion_tokens"))
            why.message = replaced(std::move(why.message), "`max_tokens", "`max_completion_tokens");
        return tl::unexpected<error>(std::move(why));
    }
    openai_request out;
    out.input = std::move(fields->input);
    out.stream = fields->stream.value_or(false);
    if (own.stream_options && !out.stream)
        return fail(errc::invalid_argument, "`stream_options` needs `stream`: true");
    out.include_usage = own.include_usage;
    out.ignored = std::move(fields->ignored);
    out.ignored.insert(out.ignored.end(), own.ignored.begin(), own.ignored.end());
    std::sort(out.ignored.begin(), out.ignored.end());
    return out;
}

result<text_question> read_tokenize_request(const json& object) {
    json request = json::object();
    for (const auto* name : {"text", "prompt"})
        if (object.contains(name))
            request["prompt"] = object[name];
    if (object.contains("messages")) {
        auto plain = plain_messages(object["messages"]);
        if (!plain)
            return tl::unexpected<error>(std::move(plain.error()));
        request["messages"] = std::move(*plain);
    }
    text_question question;
    if (const auto special = object.find("add_special_tokens"); special != object.end()) {
        if (!special->is_boolean())
            return wrong("add_special_tokens", "true or false");
        question.special = special->get<bool>();
    }
    if (request.size() != 1)
        return fail(errc::invalid_argument, "`prompt` or `messages` is needed, one of them");
    auto fields = read_request(request, unknown_field_policy::collect);
    if (!fields)
        return tl::unexpected<error>(std::move(fields.error()));
    question.text = std::move(fields->input.prompt);
    question.messages = std::move(fields->input.messages);
    return question;
}

result<text_question> read_detokenize_request(const json& object) {
    const auto* const name = object.contains("tokens") ? "tokens" : "token_ids";
    if (!object.contains(name))
        return fail(errc::invalid_argument, "`token_ids` is missing");
    auto fields = read_request(json{{"ids", object[name]}}, unknown_field_policy::collect);
    if (!fields) {
        auto why = std::move(fields.error());
        why.message = replaced(std::move(why.message), "`ids", std::string("`") + name);
        return tl::unexpected<error>(std::move(why));
    }
    text_question question;
    question.ids = std::move(fields->input.ids);
    return question;
}

} // namespace moira
