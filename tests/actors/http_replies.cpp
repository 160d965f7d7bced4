#include "tests/actors/http_replies.hpp"

#include <cctype>
#include <charconv>

namespace {

std::optional<std::size_t> number(std::string_view text, int base) {
    std::size_t value = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (text.empty() || read.ec != std::errc{} || read.ptr != text.data() + text.size())
        return std::nullopt;
    return value;
}

bool read_head(std::string_view head, http_reply_read& reply) {
    const auto line_end = head.find("\r\n");
    const auto line = head.substr(0, line_end);
    if (!line.starts_with("HTTP/1.1 ") || line.size() < 13 || line[12] != ' ')
        return false;
    const auto status = number(line.substr(9, 3), 10);
    if (!status)
        return false;
    reply.status = static_cast<int>(*status);
    for (auto rest = head.substr(line_end == std::string_view::npos ? head.size() : line_end + 2); !rest.empty();) {
        const auto end = rest.find("\r\n");
        const auto field = rest.substr(0, end);
        const auto colon = field.find(": ");
        if (colon == std::string_view::npos)
            return false;
        std::string name;
        for (const char letter : field.substr(0, colon))
            name += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
        if (!reply.fields.emplace(name, field.substr(colon + 2)).second)
            return false;
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 2);
    }
    return true;
}

/// The bytes of a chunked body; 0: not complete.
std::size_t read_chunks(std::string_view bytes, http_reply_read& reply, bool& malformed) {
    std::size_t at = 0;
    for (;;) {
        const auto end = bytes.find("\r\n", at);
        if (end == std::string_view::npos)
            return 0;
        const auto size = number(bytes.substr(at, end - at), 16);
        if (!size) {
            malformed = true;
            return 0;
        }
        at = end + 2;
        if (bytes.size() < at + *size + 2)
            return 0;
        reply.body += bytes.substr(at, *size);
        malformed |= bytes.substr(at + *size, 2) != "\r\n";
        at += *size + 2;
        if (*size == 0)
            return at;
    }
}

} // namespace

std::string http_reply_read::code() const {
    const auto value = json();
    if (!value.is_object() || !value.contains("error"))
        return "";
    return value["error"]["code"].get<std::string>();
}

std::string http_reply_read::field(const std::string& name) const {
    const auto found = fields.find(name);
    return found == fields.end() ? "" : found->second;
}

std::vector<std::string> http_reply_read::events() const {
    std::vector<std::string> all;
    for (std::string_view rest = body; rest.starts_with("data: ");) {
        const auto end = rest.find("\n\n");
        all.emplace_back(rest.substr(6, end - 6));
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 2);
    }
    return all;
}

std::optional<http_reply_read> take_reply(std::string& bytes, bool& malformed, bool head_only) {
    const auto head_end = bytes.find("\r\n\r\n");
    if (head_end == std::string::npos)
        return std::nullopt;
    http_reply_read reply;
    malformed |= !read_head(std::string_view(bytes).substr(0, head_end), reply);
    if (malformed)
        return std::nullopt;
    const auto body_begin = head_end + 4;
    if (reply.status == 100 || head_only) {
        bytes.erase(0, body_begin);
        return reply;
    }
    if (reply.field("transfer-encoding") == "chunked") {
        const auto size = read_chunks(std::string_view(bytes).substr(body_begin), reply, malformed);
        if (size == 0)
            return std::nullopt;
        bytes.erase(0, body_begin + size);
        return reply;
    }
    const auto size = number(reply.field("content-length"), 10);
    malformed |= !size;
    if (!size || bytes.size() < body_begin + *size)
        return std::nullopt;
    reply.body = bytes.substr(body_begin, *size);
    bytes.erase(0, body_begin + *size);
    return reply;
}
