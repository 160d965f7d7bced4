#include "actors/http_session.hpp"

#include "actors/api_keys.hpp"
#include "actors/tcp_limits.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

namespace moira {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

struct route_row {
    std::string_view path;
    std::string_view method;
    http_session::route to;
};

constexpr std::array routes{
    route_row{"/v1/models", "GET", http_session::route::models},
    route_row{"/health", "GET", http_session::route::health},
    route_row{"/metrics", "GET", http_session::route::metrics},
    route_row{"/v1/completions", "POST", http_session::route::completions},
    route_row{"/v1/chat/completions", "POST", http_session::route::chat_completions},
    route_row{"/tokenize", "POST", http_session::route::tokenize},
    route_row{"/detokenize", "POST", http_session::route::detokenize},
};
constexpr std::string_view model_prefix = "/v1/models/";

http_failure failure(int status, errc code, std::string message) {
    return {status, {code, std::move(message)}};
}

char lower(char letter) noexcept {
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

bool is_printable(std::string_view text) noexcept {
    return std::all_of(text.begin(), text.end(), [](char letter) { return letter > ' ' && letter < '\x7f'; });
}

/// The path of a target: origin form, or the absolute form that proxies use, without the query.
std::string_view path_of(std::string_view target) noexcept {
    constexpr std::string_view scheme = "http://";
    if (target.starts_with(scheme)) {
        target.remove_prefix(scheme.size());
        const auto slash = target.find('/');
        target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
    }
    return target.substr(0, target.find('?'));
}

/// "application/json", with or without parameters.
bool is_json_type(std::string_view type) noexcept {
    auto name = type.substr(0, type.find(';'));
    while (!name.empty() && (name.back() == ' ' || name.back() == '\t'))
        name.remove_suffix(1);
    return equal_ignoring_case(name, "application/json");
}

/// The key of `Authorization: Bearer KEY`; empty: none.
std::string_view bearer_key(std::string_view field) noexcept {
    constexpr std::string_view scheme = "Bearer ";
    if (field.size() < scheme.size() || !equal_ignoring_case(field.substr(0, scheme.size()), scheme))
        return {};
    field.remove_prefix(scheme.size());
    while (!field.empty() && field.front() == ' ')
        field.remove_prefix(1);
    return field;
}

} // namespace

http_session::http_session(const http_limits& limits, const http_site& site, tag_counter& tags)
    : limits_(limits), site_(site), tags_(tags), parser_(limits.head_bytes_max, limits.body_bytes_max),
      authenticated_(site.keys.empty()) {}

void http_session::receive(std::string_view bytes) {
    if (closed_ || overrun_)
        return;
    if (exchange_ && buffer_.size() + bytes.size() > limits_.pipelined_bytes_max) {
        overrun_ = true;
        buffer_ = std::string();
        return;
    }
    buffer_ += bytes;
}

bool http_session::partial() const noexcept {
    return !closed_ && !exchange_ && (!buffer_.empty() || parser_.begun());
}

bool http_session::process(session_output& output) {
    while (!closed_ && !exchange_ && !buffer_.empty()) {
        if (output.bytes.size() >= limits_.output_bytes_pause)
            return true;
        if (!advance(output))
            break;
    }
    if (closed_)
        buffer_ = std::string();
    return false;
}

/// One step through the buffer. False: more bytes are needed.
bool http_session::advance(session_output& output) {
    if (!parser_.begun()) {
        // Some clients end a body with one line end too many (RFC 9112, 2.2).
        const auto begin = buffer_.find_first_not_of("\r\n");
        buffer_.erase(0, std::min(begin, buffer_.size()));
        const auto line_bytes = std::min(buffer_.find('\n'), buffer_.size());
        if (line_bytes > limits_.request_line_bytes_max) {
            keep_alive_ = false;
            refuse(
                failure(414, errc::line_too_long,
                        "the request line is longer than " + std::to_string(limits_.request_line_bytes_max) + " bytes"),
                output);
            return true;
        }
    }
    const auto taken = parser_.take(buffer_);
    if (!taken) {
        keep_alive_ = false; // where the next request would begin is unknown
        refuse(taken.error(), output);
        return true;
    }
    buffer_.erase(0, *taken);
    if (parser_.head_done() && !head_judged_)
        return judge_head(output);
    if (parser_.done()) {
        take_request(output);
        return true;
    }
    return *taken != 0 && !buffer_.empty();
}

/// True: go on with the buffer.
bool http_session::judge_head(session_output& output) {
    head_judged_ = true;
    const auto& head = parser_.head();
    keep_alive_ = head.keep_alive;
    http_1_0_ = head.http_1_0;
    head_only_ = head.method == "HEAD";
    const bool usable = !head.request_id.empty() && head.request_id.size() <= limits_.request_id_bytes_max &&
                        is_printable(head.request_id);
    request_id_ = usable ? head.request_id : "req-" + site_.id_prefix + std::to_string(tags_.next());
    if (const auto wrong = failure_of_head(head)) {
        if (!parser_.done())
            keep_alive_ = false; // its body is not read
        refuse(*wrong, output);
        return true;
    }
    if (parser_.done()) {
        take_request(output);
        return true;
    }
    if (!head.expect.empty() && !http_1_0_ && buffer_.empty())
        output.bytes += "HTTP/1.1 100 Continue\r\n\r\n";
    return true;
}

std::optional<http_failure> http_session::failure_of_head(const http_head& head) {
    if (head.hosts > 1 || (head.hosts == 0 && !head.http_1_0))
        return failure(400, errc::invalid_argument, "exactly one Host field is needed");
    if (!is_printable(head.target))
        return failure(400, errc::invalid_argument, "the target of the request is not printable ASCII");
    const auto missing = find_route(head);
    const bool open = !missing && route_ == route::health; // says nothing that a port scan would not
    if (!site_.keys.empty() && !open) {
        if (!knows_key(site_.keys, bearer_key(head.authorization)))
            return failure(401, errc::unauthorized, "send a known key: Authorization: Bearer KEY");
        authenticated_ = true;
    }
    if (missing)
        return missing;
    if (!head.transfer_encoding.empty() && !equal_ignoring_case(head.transfer_encoding, "chunked"))
        return failure(501, errc::unsupported, "the only transfer coding here is chunked");
    if (!head.expect.empty() && !equal_ignoring_case(head.expect, "100-continue"))
        return failure(417, errc::unsupported, "the only expectation here is 100-continue");
    if (head.method != "POST")
        return std::nullopt;
    if (!head.content_type.empty() && !is_json_type(head.content_type))
        return failure(415, errc::unsupported, "send a body of Content-Type: application/json");
    if (!head.content_encoding.empty() && !equal_ignoring_case(head.content_encoding, "identity"))
        return failure(415, errc::unsupported, "send the body without a Content-Encoding");
    return std::nullopt;
}

std::optional<http_failure> http_session::find_route(const http_head& head) {
    const auto path = path_of(head.target);
    std::string_view method = "GET";
    if (path.starts_with(model_prefix)) {
        route_ = route::model;
        model_name_ = path.substr(model_prefix.size());
    } else {
        const auto* const row =
            std::find_if(routes.begin(), routes.end(), [&](const route_row& each) { return each.path == path; });
        if (row == routes.end())
            return failure(404, errc::not_found,
                           "there is nothing at this path; see /v1/models, /v1/completions, "
                           "/v1/chat/completions, /tokenize, /detokenize, /health, /metrics");
        route_ = row->to;
        method = row->method;
    }
    allowed_method_ = method;
    if (head.method == method || (head_only_ && method == "GET"))
        return std::nullopt;
    return failure(405, errc::unsupported, "use " + allowed_method_ + " for this path");
}

void http_session::take_request(session_output& output) {
    auto body = parser_.take_body();
    if (draining_ && route_ != route::health && route_ != route::metrics)
        return refuse(http_failure_of({errc::draining, "the server is shutting down and takes nothing new"}), output);
    if (site_.loading)
        return refuse(http_failure_of({errc::loading, "the model is still being loaded"}), output);
    switch (route_) {
    case route::models:
        return reply_json(
            {{"object", "list"}, {"data", ordered_json::array({openai_model_json(site_.identity, site_.started_s)})}},
            output);
    case route::model:
        if (model_name_ != site_.identity.model)
            return refuse(failure(404, errc::not_found, "no such model; see /v1/models"), output);
        return reply_json(openai_model_json(site_.identity, site_.started_s), output);
    case route::health:
        if (draining_)
            return refuse(http_failure_of({errc::draining, "the server is shutting down"}), output);
        return reply_json({{"status", "ok"}}, output);
    case route::metrics:
        exchange_.emplace().to = route::metrics;
        output.actions.emplace_back(statistics_action{});
        return;
    default:
        break;
    }
    const auto object = parse_request_json(body);
    body = std::string();
    if (!object)
        return refuse(http_failure_of(object.error()), output);
    if (route_ == route::completions || route_ == route::chat_completions)
        take_generation(*object, output);
    else
        take_text(*object, output);
}

void http_session::take_generation(const json& object, session_output& output) {
    const auto endpoint =
        route_ == route::completions ? openai_endpoint::completions : openai_endpoint::chat_completions;
    auto request = read_openai_request(object, endpoint, site_.identity.model);
    if (!request)
        return refuse(http_failure_of(std::move(request.error())), output);
    if (request->stream && http_1_0_)
        return refuse(failure(400, errc::unsupported, "`stream` needs HTTP/1.1"), output);
    auto& owed = exchange_.emplace();
    owed.to = route_;
    owed.tag = tags_.next();
    owed.stream = request->stream;
    owed.ignored = std::move(request->ignored);
    owed.shape.endpoint = endpoint;
    owed.shape.id = endpoint == openai_endpoint::completions ? "cmpl-" : "chatcmpl-";
    owed.shape.id += site_.id_prefix + std::to_string(owed.tag);
    owed.shape.model = site_.identity.model;
    owed.shape.created_s = site_.unix_time_s();
    owed.shape.include_usage = request->include_usage;
    output.actions.emplace_back(
        submit_action{owed.tag, std::make_shared<const generation_input>(std::move(request->input))});
}

void http_session::take_text(const json& object, session_output& output) {
    auto question = route_ == route::tokenize ? read_tokenize_request(object) : read_detokenize_request(object);
    if (!question)
        return refuse(http_failure_of(std::move(question.error())), output);
    exchange_.emplace().to = route_;
    output.actions.emplace_back(text_action{std::move(*question)});
}

std::string http_session::last_words(const error& why) const {
    if (why.code == errc::too_slow && !partial())
        return {};
    session_output output;
    const auto said = http_failure_of(why);
    auto head = reply_head(said.status);
    head.keep_alive = false;
    head.request_id = {};
    head.extra_fields = fields_of_failure(said);
    append_reply(output.bytes, head, json_text(http_error_json(said)));
    return output.bytes;
}

std::shared_ptr<http_site> make_http_site(std::vector<std::string> keys, runtime_identity identity) {
    auto site = std::make_shared<http_site>();
    site->keys = std::move(keys);
    site->identity = std::move(identity);
    site->unix_time_s = [] {
        using namespace std::chrono;
        return duration_cast<seconds>(system_clock::now().time_since_epoch()).count();
    };
    site->started_s = site->unix_time_s();
    std::random_device random;
    constexpr std::string_view digits = "0123456789abcdef";
    for (int i = 0; i < 8; ++i)
        site->id_prefix += digits[random() % digits.size()];
    site->id_prefix += '-';
    return site;
}

session_factory http_sessions(std::vector<std::string> keys, runtime_identity identity) {
    return http_sessions(make_http_site(std::move(keys), std::move(identity)));
}

session_factory http_sessions(std::shared_ptr<const http_site> site) {
    return [site = std::move(site)](const tcp_limits& limits, tag_counter& tags) {
        return std::make_unique<http_session>(limits.http, *site, tags);
    };
}

} // namespace moira
