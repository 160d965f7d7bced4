#include "actors/http_reply_reader.hpp"

#include "actors/load_protocol.hpp"

#include <algorithm>
#include <charconv>

namespace moira {

namespace {

/// A chunk's size with extensions, or one trailer.
constexpr std::size_t chunk_line_bytes_max = 1'024;
constexpr std::size_t trailers_max = 100;

std::string lower(std::string_view text) {
    std::string low(text);
    std::transform(low.begin(), low.end(), low.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return low;
}

std::string_view trimmed(std::string_view text) {
    const auto begin = text.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos)
        return {};
    return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

bool read_number(std::string_view text, std::uint64_t& value, int base) {
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return !text.empty() && problem == std::errc{} && end == text.data() + text.size();
}

} // namespace

void http_reply_reader::begin() {
    *this = http_reply_reader();
}

void http_reply_reader::take(std::string_view& bytes, std::string& body) {
    if (part_ == part::head)
        return take_head(bytes);
    if (part_ != part::body)
        return;
    if (framing_ == framing::length || framing_ == framing::chunk_data || framing_ == framing::until_close)
        return take_data(bytes, body);
    if (!take_text_line(bytes))
        return;
    if (framing_ == framing::chunk_size)
        read_chunk_size();
    else if (framing_ == framing::chunk_end)
        line_.empty() ? void(framing_ = framing::chunk_size) : void(part_ = part::broken);
    else if (line_.empty())
        part_ = part::ended;
    else if (++trailers_ > trailers_max)
        part_ = part::broken;
    line_.clear();
}

void http_reply_reader::take_data(std::string_view& bytes, std::string& body) {
    if (framing_ == framing::until_close) {
        body.append(bytes);
        bytes = {};
        return;
    }
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
    body.append(bytes.substr(0, count));
    bytes.remove_prefix(count);
    left_ -= count;
    if (left_ != 0)
        return;
    if (framing_ == framing::chunk_data)
        framing_ = framing::chunk_end;
    else
        part_ = part::ended;
}

/// True when `line_` holds a whole line, without its end.
bool http_reply_reader::take_text_line(std::string_view& bytes) {
    const auto end = bytes.find('\n');
    const auto count = end == std::string_view::npos ? bytes.size() : end;
    if (line_.size() + count > chunk_line_bytes_max) {
        part_ = part::broken;
        return false;
    }
    line_.append(bytes.substr(0, count));
    bytes.remove_prefix(end == std::string_view::npos ? count : count + 1);
    if (end == std::string_view::npos)
        return false;
    if (line_.ends_with('\r'))
        line_.pop_back();
    return true;
}

void http_reply_reader::read_chunk_size() {
    const auto size = trimmed(std::string_view(line_).substr(0, line_.find(';')));
    if (!read_number(size, left_, 16))
        part_ = part::broken;
    framing_ = left_ == 0 ? framing::trailer : framing::chunk_data;
}

void http_reply_reader::take_head(std::string_view& bytes) {
    // The end may be cut anywhere: look again at the last bytes of what is here.
    const std::size_t seen = line_.size() < 3 ? 0 : line_.size() - 3;
    const auto before = line_.size();
    line_.append(bytes.substr(0, load_head_bytes_max + 1));
    const auto end = line_.find("\r\n\r\n", seen);
    if (end == std::string::npos) {
        bytes.remove_prefix(line_.size() - before);
        // A peer that speaks something else would be waited for until it is silent for too long.
        constexpr std::string_view beginning = "HTTP/1.";
        const bool foreign = !line_.starts_with(beginning.substr(0, std::min(line_.size(), beginning.size())));
        if (foreign || line_.size() > load_head_bytes_max)
            part_ = part::broken;
        return;
    }
    bytes.remove_prefix(end + 4 - before);
    line_.resize(end);
    const std::string head = std::move(line_);
    line_.clear();
    read_head(head);
}

void http_reply_reader::read_head(std::string_view head) {
    auto line = head.substr(0, head.find("\r\n"));
    std::uint64_t status = 0;
    if (!line.starts_with("HTTP/1.") || line.size() < 12 || line[8] != ' ' ||
        !read_number(line.substr(9, 3), status, 10)) {
        part_ = part::broken;
        return;
    }
    if (status >= 100 && status < 200 && status != 101)
        return begin(); // only an announcement: the answer follows
    keep_alive_ = line[7] == '1';
    status_ = static_cast<int>(status);
    part_ = part::body;
    while (line.size() < head.size()) {
        head.remove_prefix(line.size() + 2);
        line = head.substr(0, head.find("\r\n"));
        const auto colon = line.find(':');
        if (colon == std::string_view::npos) {
            part_ = part::broken;
            return;
        }
        read_header(line.substr(0, colon), trimmed(line.substr(colon + 1)));
    }
    if (part_ == part::broken)
        return;
    framing_ = chunked_ ? framing::chunk_size : length_known_ ? framing::length : framing::until_close;
    if (status == 204 || status == 304 || (!chunked_ && length_known_ && left_ == 0))
        part_ = part::ended;
}

void http_reply_reader::read_header(std::string_view name, std::string_view value) {
    const auto key = lower(name);
    if (key == "transfer-encoding") {
        chunked_ = lower(value) == "chunked";
        if (!chunked_)
            part_ = part::broken; // a compressed answer was not asked for
    } else if (key == "content-length") {
        length_known_ = read_number(value, left_, 10);
        if (!length_known_)
            part_ = part::broken;
    } else if (key == "connection") {
        keep_alive_ = lower(value) != "close" && keep_alive_;
    } else if (key == "content-type") {
        event_stream_ = lower(value).starts_with("text/event-stream");
    }
}

void http_reply_reader::close() {
    if (part_ == part::body && framing_ == framing::until_close)
        part_ = part::ended;
    else if (part_ != part::ended)
        part_ = part::broken;
    keep_alive_ = false;
}

} // namespace moira
