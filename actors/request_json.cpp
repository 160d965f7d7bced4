#include "actors/request_json.hpp"

#include "core/text/text_stream.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace moira {

namespace {

using nlohmann::json;

tl::unexpected<error> wrong(std::string_view field, const json& value, std::string_view expected) {
    std::string found = value.type_name();
    if (value.is_number())
        found = value.dump();
    std::string message("`");
    message.append(field).append("` is ").append(found).append("; it must be ").append(expected);
    return fail(errc::invalid_argument, std::move(message));
}

result<double> read_number(std::string_view field, const json& value, double least, double most) {
    const auto expected = "a number from " + json(least).dump() + " to " + json(most).dump();
    if (!value.is_number())
        return wrong(field, value, expected);
    const auto number = value.get<double>();
    if (!std::isfinite(number) || number < least || number > most)
        return wrong(field, value, expected);
    return number;
}

result<std::int64_t> read_integer(std::string_view field, const json& value, std::int64_t least, std::int64_t most) {
    const auto expected = "an integer from " + std::to_string(least) + " to " + std::to_string(most);
    if (!value.is_number_integer())
        return wrong(field, value, expected);
    if (value.is_number_unsigned() &&
        value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return wrong(field, value, expected);
    const auto number = value.get<std::int64_t>();
    if (number < least || number > most)
        return wrong(field, value, expected);
    return number;
}

result<bool> read_boolean(std::string_view field, const json& value) {
    if (!value.is_boolean())
        return wrong(field, value, "true or false");
    return value.get<bool>();
}

result<std::string> read_string(std::string_view field, const json& value) {
    if (!value.is_string())
        return wrong(field, value, "a string");
    return value.get<std::string>();
}

/// Stores what was read, or hands its error on.
template <class Value, class Target>
result<void> store(result<Value>&& value, Target& target) {
    if (!value)
        return tl::unexpected<error>(std::move(value.error()));
    target = std::move(*value);
    return {};
}

result<std::vector<token_id>> read_ids(const json& value) {
    if (!value.is_array() || value.empty())
        return wrong("ids", value, "a list of at least one token id");
    std::vector<token_id> ids;
    ids.reserve(value.size());
    for (const auto& element : value) {
        if (!element.is_number_integer())
            return wrong("ids[" + std::to_string(ids.size()) + "]", element, "an integer");
        const auto id = read_integer("ids", element, 0, std::numeric_limits<token_id>::max());
        if (!id)
            return fail(errc::token_out_of_range, "`ids[" + std::to_string(ids.size()) + "]` is " + element.dump() +
                                                      "; ids go from 0 to the vocabulary size minus 1");
        ids.push_back(static_cast<token_id>(*id));
    }
    return ids;
}

result<std::vector<std::string>> read_stop(const json& value) {
    const bool single = value.is_string();
    if (!single && (!value.is_array() || value.size() > stop_matcher::stops_max))
        return wrong("stop", value,
                     "a string or a list of at most " + std::to_string(stop_matcher::stops_max) + " strings");
    std::vector<std::string> stops;
    const auto count = single ? std::size_t{1} : value.size();
    for (std::size_t i = 0; i < count; ++i) {
        const auto name = single ? std::string("stop") : "stop[" + std::to_string(i) + "]";
        auto text = read_string(name, single ? value : value[i]);
        if (!text)
            return tl::unexpected<error>(std::move(text.error()));
        if (text->empty() || text->size() > stop_matcher::stop_bytes_max)
            return fail(errc::invalid_argument, "`" + name + "` has " + std::to_string(text->size()) +
                                                    " bytes; it must have 1 to " +
                                                    std::to_string(stop_matcher::stop_bytes_max));
        stops.push_back(std::move(*text));
    }
    return stops;
}

tl::unexpected<error> unknown(const std::string& name) {
    constexpr std::size_t shown_bytes_max = 64; // a name may be as long as the line
    auto shown = name.substr(0, shown_bytes_max);
    if (name.size() > shown_bytes_max)
        shown += "...";
    return fail(errc::unknown_field, "`" + shown + "` is not a field of a request; remove it or correct its name");
}

result<chat_message> read_message(const json& value, std::size_t index, unknown_field_policy policy,
                                  std::vector<std::string>& ignored) {
    const auto name = "messages[" + std::to_string(index) + "]";
    if (!value.is_object())
        return wrong(name, value, "an object with `role` and `content`");
    chat_message message;
    for (const auto* key : {"role", "content"}) {
        const auto found = value.find(key);
        if (found == value.end())
            return fail(errc::invalid_argument, "`" + name + "` has no `" + key + "`; it needs role and content");
        auto& target = key[0] == 'r' ? message.role : message.content;
        if (auto stored = store(read_string(name + "." + key, *found), target); !stored)
            return tl::unexpected<error>(std::move(stored.error()));
    }
    if (message.role.empty())
        return fail(errc::invalid_argument, "`" + name + ".role` is empty; use system, user or assistant");
    for (const auto& [key, member] : value.items()) {
        if (key == "role" || key == "content")
            continue;
        if (policy == unknown_field_policy::refuse)
            return unknown(name + "." + key);
        if (const auto label = "messages." + key; std::find(ignored.begin(), ignored.end(), label) == ignored.end())
            ignored.push_back(label);
    }
    return message;
}

result<std::vector<chat_message>> read_messages(const json& value, unknown_field_policy policy,
                                                std::vector<std::string>& ignored) {
    if (!value.is_array() || value.empty())
        return wrong("messages", value, "a list of at least one message");
    std::vector<chat_message> messages;
    messages.reserve(value.size());
    for (const auto& element : value) {
        auto message = read_message(element, messages.size(), policy, ignored);
        if (!message)
            return tl::unexpected<error>(std::move(message.error()));
        messages.push_back(std::move(*message));
    }
    return messages;
}

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

result<void> read_seed(const json& value, request_fields& out) {
    if (!value.is_number_unsigned())
        return wrong("seed", value, "an integer from 0 to 18446744073709551615");
    out.input.seed = value.get<std::uint64_t>();
    return {};
}

struct field {
    std::string_view name;
    result<void> (*read)(const json& value, request_fields& out, unknown_field_policy policy);
};

using policy_t = unknown_field_policy;

/// Every field of a request. The ranges are those that the sampler serves; what depends on the model (context,
/// vocabulary) is checked by intake.
constexpr std::array fields{
    field{"prompt",
          [](const json& v, request_fields& o, policy_t) { return store(read_string("prompt", v), o.input.prompt); }},
    field{"ids", [](const json& v, request_fields& o, policy_t) { return store(read_ids(v), o.input.ids); }},
    field{"messages", [](const json& v, request_fields& o,
                         policy_t p) { return store(read_messages(v, p, o.ignored), o.input.messages); }},
    field{"max_tokens",
          [](const json& v, request_fields& o, policy_t) {
              return store(read_integer("max_tokens", v, 1, int32_max), o.input.max_tokens);
          }},
    field{"temperature", [](const json& v, request_fields& o,
                            policy_t) { return store(read_number("temperature", v, 0, 100), o.input.temperature); }},
    field{"top_p", [](const json& v, request_fields& o,
                      policy_t) { return store(read_number("top_p", v, 0, 1), o.input.top_p); }},
    field{"min_p", [](const json& v, request_fields& o,
                      policy_t) { return store(read_number("min_p", v, 0, 1), o.input.min_p); }},
    field{"repetition_penalty",
          [](const json& v, request_fields& o, policy_t) {
              return store(read_number("repetition_penalty", v, 0, 100), o.input.repetition_penalty);
          }},
    field{"top_k", [](const json& v, request_fields& o,
                      policy_t) { return store(read_integer("top_k", v, 0, int32_max), o.input.top_k); }},
    field{"seed", [](const json& v, request_fields& o, policy_t) { return read_seed(v, o); }},
    field{"stop", [](const json& v, request_fields& o, policy_t) { return store(read_stop(v), o.input.stop); }},
    field{"ignore_eos", [](const json& v, request_fields& o,
                           policy_t) { return store(read_boolean("ignore_eos", v), o.input.ignore_eos); }},
    field{"timeout_ms",
          [](const json& v, request_fields& o, policy_t) {
              return store(read_integer("timeout_ms", v, 1, request_timeout_ms_max), o.input.timeout_ms);
          }},
    field{"stream",
          [](const json& v, request_fields& o, policy_t) { return store(read_boolean("stream", v), o.stream); }},
};

} // namespace

result<request_fields> read_request(const json& object, unknown_field_policy policy,
                                    std::span<const std::string_view> others) {
    if (!object.is_object())
        return wrong("request", object, "an object");
    request_fields out;
    for (const auto& [name, value] : object.items()) {
        if (std::find(others.begin(), others.end(), name) != others.end())
            continue;
        const auto row =
            std::find_if(fields.begin(), fields.end(), [&key = name](const field& f) { return f.name == key; });
        if (row != fields.end()) {
            if (auto read = row->read(value, out, policy); !read)
                return tl::unexpected<error>(std::move(read.error()));
        } else if (policy == unknown_field_policy::refuse) {
            return unknown(name);
        } else {
            out.ignored.push_back(name);
        }
    }
    const int prompts =
        int{out.input.prompt.has_value()} + int{out.input.ids.has_value()} + int{out.input.messages.has_value()};
    if (prompts != 1)
        return fail(errc::invalid_argument,
                    "a request needs exactly one of `prompt`, `ids` and `messages`; found " + std::to_string(prompts));
    return out;
}

} // namespace moira
