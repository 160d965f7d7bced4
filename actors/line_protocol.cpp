#include "actors/line_protocol.hpp"

#include "actors/api_keys.hpp"
#include "actors/tcp_limits.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace moira {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

std::string in_quotes(std::string_view text) {
    return json_text(ordered_json(text));
}

void append_error(std::string& lines, const std::optional<std::string>& id, const error& why) {
    ordered_json line;
    line["id"] = id ? ordered_json(*id) : ordered_json(nullptr);
    line["error"] = error_json(why);
    lines += json_text(line);
    lines += '\n';
}

error still_loading() {
    return {errc::loading, "the model is still being loaded; send again"};
}

/// A control line holds its one key and nothing else.
std::optional<error> extra_field(const json& object, std::string_view key) {
    constexpr std::size_t shown_bytes_max = 64; // a name may be as long as the line
    for (const auto& [name, value] : object.items()) {
        if (name == key)
            continue;
        std::string message("`");
        message.append(name, 0, shown_bytes_max).append("` does not belong in a line with `").append(key).append("`");
        return error{errc::unknown_field, std::move(message)};
    }
    return std::nullopt;
}

} // namespace

line_session::line_session(const line_limits& limits, const session_site& site, tag_counter& tags)
    : limits_(limits), site_(site), tags_(tags), authenticated_(site.keys.empty()) {}

void line_session::receive(std::string_view bytes) {
    if (!closed_)
        buffer_ += bytes;
}

bool line_session::process(session_output& output) {
    std::size_t begin = 0;
    bool more = false;
    while (!closed_) {
        const auto end = buffer_.find('\n', std::max(begin, searched_));
        const auto bytes_max = authenticated_ ? limits_.line_bytes_max : limits_.auth_line_bytes_max;
        const auto line_bytes = (end == std::string::npos ? buffer_.size() : end) - begin;
        if (line_bytes > bytes_max) {
            close({errc::line_too_long, "a line is longer than " + std::to_string(bytes_max) +
                                            " bytes; send less, or raise server.max_line_bytes"},
                  output);
            break;
        }
        if (end == std::string::npos) {
            searched_ = buffer_.size();
            break;
        }
        if (output.bytes.size() >= limits_.output_bytes_pause) {
            more = true;
            break;
        }
        take_line(std::string_view(buffer_).substr(begin, line_bytes), output);
        begin = end + 1;
    }
    if (closed_) {
        buffer_ = std::string();
        begin = 0;
    }
    buffer_.erase(0, begin);
    searched_ = searched_ > begin ? searched_ - begin : 0;
    // One long prompt must not hold its memory for the rest of the connection.
    constexpr std::size_t kept_bytes_max = std::size_t{64} << 10;
    if (buffer_.empty() && buffer_.capacity() > kept_bytes_max)
        buffer_.shrink_to_fit();
    return more;
}

void line_session::take_line(std::string_view line, session_output& output) {
    std::optional<std::string> id;
    const auto object = parse_request_json(line, &id);
    if (id && id->size() > limits_.id_bytes_max)
        id.reset();
    if (!authenticated_) {
        if (object && object->contains("auth"))
            return take_key(*object, output);
        return close({errc::unauthorized, "this server wants {\"auth\":\"KEY\"} as the first line"}, output);
    }
    if (!object)
        return append_error(output.bytes, id, object.error());
    take_object(*object, id, output);
}

void line_session::take_object(const json& object, const std::optional<std::string>& id, session_output& output) {
    struct control {
        const char* key;
        void (line_session::*take)(const json&, session_output&);
    };
    constexpr std::array controls{
        control{"auth", &line_session::take_key},
        control{"cancel", &line_session::take_cancel},
        control{"ping", &line_session::take_ping},
        control{"stats", &line_session::take_statistics},
        control{"fault", &line_session::take_fault},
    };
    for (const auto& row : controls) {
        if (!object.contains(row.key))
            continue;
        if (const auto extra = extra_field(object, row.key))
            return append_error(output.bytes, id, *extra);
        return (this->*row.take)(object, output);
    }
    take_request(object, output);
}

void line_session::take_key(const json& object, session_output& output) {
    // A client may carry a key although this server wants none.
    if (site_.keys.empty())
        return;
    const auto& value = object.at("auth");
    if (!value.is_string() || !knows_key(site_.keys, value.get_ref<const std::string&>()))
        return close({errc::unauthorized, "the key is not known; use one from server.api_key_file"}, output);
    authenticated_ = true;
}

void line_session::take_cancel(const json& object, session_output& output) {
    const auto& value = object.at("cancel");
    if (!value.is_string())
        return append_error(output.bytes, {}, {errc::invalid_argument, "`cancel` must be the id of a request"});
    const auto& id = value.get_ref<const std::string&>();
    const auto found = tags_of_ids_.find(id);
    if (found == tags_of_ids_.end())
        return append_error(output.bytes, id.substr(0, limits_.id_bytes_max),
                            {errc::not_found, "no request with this id is running on this connection"});
    auto& request = requests_.at(found->second);
    if (!request.cancelling)
        output.actions.emplace_back(cancel_action{found->second});
    request.cancelling = true;
}

void line_session::take_ping(const json& object, session_output& output) {
    const auto& value = object.at("ping");
    if (!value.is_number_integer())
        return append_error(output.bytes, {}, {errc::invalid_argument, "`ping` must be an integer; it comes back"});
    output.bytes += "{\"pong\":" + value.dump() + "}\n";
}

void line_session::take_fault(const json& object, session_output& output) {
    if (!limits_.faults_allowed)
        return append_error(output.bytes, {}, {errc::unsupported, "faults are taken only with server.fault_injection"});
    if (site_.loading)
        return append_error(output.bytes, {}, still_loading());
    const auto& value = object.at("fault");
    if (!value.is_object() || value.size() != 1 || !value.contains("kill") || !value["kill"].is_string())
        return append_error(output.bytes, {}, {errc::invalid_argument, "`fault` must be {\"kill\":\"PART\"}"});
    const auto& part = value["kill"].get_ref<const std::string&>();
    if (std::find(std::begin(runtime_part_names), std::end(runtime_part_names), part) == std::end(runtime_part_names))
        return append_error(output.bytes, {}, {errc::not_found, "the runtime has no part of this name"});
    output.actions.emplace_back(fault_action{part});
    output.bytes += "{\"fault\":{\"killed\":\"" + part + "\"}}\n";
}

void line_session::take_statistics(const json& object, session_output& output) {
    const auto& value = object.at("stats");
    if (!value.is_boolean() || !value.get<bool>())
        return append_error(output.bytes, {}, {errc::invalid_argument, "`stats` must be true"});
    if (site_.loading)
        return append_error(output.bytes, {}, still_loading());
    if (statistics_waiting_ == limits_.statistics_waiting_max)
        return append_error(output.bytes, {}, {errc::queue_full, "wait for the answers to earlier `stats` lines"});
    ++statistics_waiting_;
    output.actions.emplace_back(statistics_action{});
}

void line_session::take_request(const json& object, session_output& output) {
    const auto member = object.find("id");
    if (member == object.end() || !member->is_string())
        return append_error(output.bytes, {}, {errc::invalid_argument, "a request needs a string `id`"});
    const auto& id = member->get_ref<const std::string&>();
    if (id.empty() || id.size() > limits_.id_bytes_max)
        return append_error(
            output.bytes, {},
            {errc::invalid_argument, "`id` must have 1 to " + std::to_string(limits_.id_bytes_max) + " bytes"});
    if (tags_of_ids_.contains(id))
        return append_error(output.bytes, id, {errc::duplicate_id, "a request with this id is still running"});
    constexpr std::array<std::string_view, 1> own{"id"};
    auto fields = read_request(object, unknown_field_policy::refuse, own);
    if (!fields)
        return append_error(output.bytes, id, fields.error());
    if (site_.loading)
        return append_error(output.bytes, id, still_loading());
    if (draining_)
        return append_error(output.bytes, id, {errc::draining, "the server is shutting down and takes nothing new"});
    if (requests_.size() == limits_.requests_max)
        return append_error(output.bytes, id,
                            {errc::queue_full, "this connection already runs " + std::to_string(limits_.requests_max) +
                                                   " requests; wait for one"});
    const auto tag = tags_.next();
    requests_.emplace(tag, running_request{id, in_quotes(id), fields->stream.value_or(true), false});
    tags_of_ids_.emplace(id, tag);
    output.actions.emplace_back(submit_action{tag, std::make_shared<const generation_input>(std::move(fields->input))});
}

void line_session::deliver(const output_event& event, const expert_store_statistics& experts, session_output& output) {
    const auto found = requests_.find(event.tag);
    if (found == requests_.end())
        return;
    const auto& request = found->second;
    if (request.stream) {
        const auto head = "{\"id\":" + request.quoted_id + ",\"token\":";
        for (std::size_t i = 0; i < event.tokens.size(); ++i) {
            // The tail belongs to the last token: it was only held back with it.
            auto text = event.tokens[i].text;
            if (i + 1 == event.tokens.size())
                text += event.tail_text;
            output.bytes += head + std::to_string(event.tokens[i].token) + ",\"text\":" + in_quotes(text) + "}\n";
        }
        if (event.tokens.empty() && !event.tail_text.empty())
            output.bytes += head + "null,\"text\":" + in_quotes(event.tail_text) + "}\n";
    }
    if (!event.finished)
        return;
    finish(request, *event.finished, experts, output);
    tags_of_ids_.erase(request.id);
    requests_.erase(found);
}

void line_session::finish(const running_request& request, const generation_result& outcome,
                          const expert_store_statistics& experts, session_output& output) const {
    const bool failed = outcome.reason == finish_reason::error;
    const auto why = outcome.failure.value_or(error{errc::internal, "the request failed without a reason"});
    // Never accepted: there is no result to speak of.
    if (failed && outcome.prompt_tokens == 0 && outcome.completion_tokens == 0)
        return append_error(output.bytes, request.id, why);
    ordered_json line;
    line["id"] = request.id;
    line["done"] = true;
    line["finish_reason"] = finish_reason_name(outcome.reason);
    line["text"] = outcome.text;
    line["token_ids"] = outcome.token_ids;
    line["usage"] = usage_json(outcome);
    line["moira"] = moira_json(site_.identity, experts, outcome);
    if (failed)
        line["error"] = error_json(why);
    output.bytes += json_text(line);
    output.bytes += '\n';
}

void line_session::deliver_statistics(const result<std::shared_ptr<const runtime_statistics>>& statistics,
                                      const tcp_statistics&, session_output& output) {
    for (; statistics_waiting_ > 0; --statistics_waiting_) {
        if (statistics)
            output.bytes += "{\"stats\":" + json_text(statistics_json(**statistics)) + "}\n";
        else
            append_error(output.bytes, {}, statistics.error());
    }
}

std::string line_session::last_words(const error& why) const {
    std::string line;
    append_error(line, {}, why);
    return line;
}

std::vector<std::uint64_t> line_session::running() const {
    std::vector<std::uint64_t> tags;
    tags.reserve(requests_.size());
    for (const auto& [tag, request] : requests_)
        tags.push_back(tag);
    return tags;
}

void line_session::close(const error& why, session_output& output) {
    append_error(output.bytes, {}, why);
    output.actions.emplace_back(close_action{why.code});
    closed_ = true;
}

session_factory line_sessions(std::vector<std::string> keys, runtime_identity identity) {
    return line_sessions(std::make_shared<const session_site>(session_site{std::move(keys), std::move(identity)}));
}

session_factory line_sessions(std::shared_ptr<const session_site> site) {
    // Sessions borrow from it; the factory outlives them.
    return [site = std::move(site)](const tcp_limits& limits, tag_counter& tags) {
        return std::make_unique<line_session>(limits.lines, *site, tags);
    };
}

} // namespace moira
