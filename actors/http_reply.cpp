#include "actors/http_reply.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>

namespace moira {

namespace {

using nlohmann::ordered_json;

std::string_view reason_phrase(int status) noexcept {
    struct row {
        int status;
        std::string_view phrase;
    };
    constexpr std::array rows{
        row{200, "OK"},
        row{400, "Bad Request"},
        row{401, "Unauthorized"},
        row{404, "Not Found"},
        row{405, "Method Not Allowed"},
        row{408, "Request Timeout"},
        row{409, "Conflict"},
        row{413, "Content Too Large"},
        row{414, "URI Too Long"},
        row{415, "Unsupported Media Type"},
        row{417, "Expectation Failed"},
        row{429, "Too Many Requests"},
        row{431, "Request Header Fields Too Large"},
        row{499, "Client Closed Request"},
        row{500, "Internal Server Error"},
        row{501, "Not Implemented"},
        row{503, "Service Unavailable"},
        row{504, "Gateway Timeout"},
        row{505, "HTTP Version Not Supported"},
    };
    const auto* const found =
        std::find_if(rows.begin(), rows.end(), [status](const row& each) { return each.status == status; });
    return found == rows.end() ? std::string_view{} : found->phrase;
}

std::string two_digits(unsigned number) {
    return {static_cast<char>('0' + number / 10 % 10), static_cast<char>('0' + number % 10)};
}

/// As RFC 9110 writes it, whatever the locale: "Tue, 24 Nov 2026 07:00:00 GMT".
std::string http_date(std::int64_t unix_time_s) {
    using namespace std::chrono;
    constexpr std::array<std::string_view, 7> weekdays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    constexpr std::array<std::string_view, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const sys_seconds moment{seconds(unix_time_s)};
    const auto day = floor<days>(moment);
    const year_month_day date{day};
    const hh_mm_ss time{moment - day};
    std::string text(weekdays.at(weekday(day).c_encoding()));
    text.append(", ").append(two_digits(static_cast<unsigned>(date.day()))).append(" ");
    text.append(months.at(static_cast<unsigned>(date.month()) - 1)).append(" ");
    text.append(std::to_string(static_cast<int>(date.year()))).append(" ");
    text.append(two_digits(static_cast<unsigned>(time.hours().count()))).append(":");
    text.append(two_digits(static_cast<unsigned>(time.minutes().count()))).append(":");
    text.append(two_digits(static_cast<unsigned>(time.seconds().count()))).append(" GMT");
    return text;
}

void append_head(std::string& bytes, const http_reply& reply) {
    bytes.append("HTTP/1.1 ").append(std::to_string(reply.status)).append(" ").append(reason_phrase(reply.status));
    bytes.append("\r\nDate: ").append(http_date(reply.unix_time_s));
    bytes.append("\r\nContent-Type: ").append(reply.content_type).append("\r\n");
    if (!reply.request_id.empty())
        bytes.append("X-Request-Id: ").append(reply.request_id).append("\r\n");
    bytes.append(reply.keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n");
    bytes.append(reply.extra_fields);
}

/// The names that OpenAI's clients know.
std::string_view type_of(int status) noexcept {
    if (status == 401)
        return "authentication_error";
    if (status == 429)
        return "rate_limit_error";
    return status < 500 ? "invalid_request_error" : "server_error";
}

/// Messages about a field begin with its name in backticks.
ordered_json parameter_of(std::string_view message) {
    if (message.empty() || message.front() != '`')
        return nullptr;
    message.remove_prefix(1);
    const auto end = message.find('`');
    if (end == 0 || end == std::string_view::npos)
        return nullptr;
    return message.substr(0, end);
}

} // namespace

void append_reply(std::string& bytes, const http_reply& reply, std::string_view body) {
    append_head(bytes, reply);
    bytes.append("Content-Length: ").append(std::to_string(body.size())).append("\r\n\r\n");
    if (reply.body_wanted)
        bytes.append(body);
}

void append_stream_head(std::string& bytes, const http_reply& reply) {
    append_head(bytes, reply);
    bytes.append("Transfer-Encoding: chunked\r\n\r\n");
}

void append_chunk(std::string& bytes, std::string_view part) {
    std::array<char, 16> digits{};
    const auto written = std::to_chars(digits.data(), digits.data() + digits.size(), part.size(), 16);
    bytes.append(digits.data(), written.ptr).append("\r\n").append(part).append("\r\n");
}

void append_event(std::string& bytes, std::string_view data) {
    std::string event("data: ");
    event.append(data).append("\n\n");
    append_chunk(bytes, event);
}

ordered_json http_error_json(const http_failure& failure) {
    const auto& row = describe(failure.why.code);
    const auto& message = failure.why.message;
    ordered_json value;
    value["message"] = message.empty() ? std::string(row.advice) : message;
    value["type"] = type_of(failure.status);
    value["param"] = parameter_of(message);
    value["code"] = row.name;
    return {{"error", std::move(value)}};
}

std::string fields_of_failure(const http_failure& failure) {
    // Queues move within a second or so; clients that follow this do not hammer.
    if (describe(failure.why.code).retryable && (failure.status == 429 || failure.status == 503))
        return "Retry-After: 1\r\n";
    return failure.status == 401 ? "WWW-Authenticate: Bearer\r\n" : "";
}

} // namespace moira
