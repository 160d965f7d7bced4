#include "actors/http_parser.hpp"

#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>

namespace moira {

namespace {

namespace http = boost::beast::http;

/// A body that grows with what arrives. Beast's own string_body reserves what Content-Length merely claims.
struct arriving_body {
    using value_type = std::string;

    class reader {
    public:
        template <bool IsRequest, class Fields>
        reader(http::header<IsRequest, Fields>&, value_type& body) : body_(body) {}

        void init(const boost::optional<std::uint64_t>&, boost::beast::error_code& failure) { failure = {}; }

        template <class Buffers>
        std::size_t put(const Buffers& buffers, boost::beast::error_code& failure) {
            failure = {};
            std::size_t bytes = 0;
            for (auto each = boost::asio::buffer_sequence_begin(buffers);
                 each != boost::asio::buffer_sequence_end(buffers); ++each) {
                const boost::asio::const_buffer part = *each;
                body_.append(static_cast<const char*>(part.data()), part.size());
                bytes += part.size();
            }
            return bytes;
        }

        void finish(boost::beast::error_code& failure) { failure = {}; }

    private:
        value_type& body_;
    };
};

using request_parser = http::request_parser<arriving_body>;

std::string text_of(boost::beast::string_view text) {
    return {text.data(), text.size()};
}

http_head head_of(const request_parser& parser) {
    const auto& request = parser.get();
    http_head head;
    head.method = text_of(request.method_string());
    head.target = text_of(request.target());
    head.http_1_0 = request.version() == 10;
    head.keep_alive = parser.keep_alive();
    head.hosts = request.count(http::field::host);
    head.authorization = text_of(request[http::field::authorization]);
    head.content_type = text_of(request[http::field::content_type]);
    head.content_encoding = text_of(request[http::field::content_encoding]);
    head.transfer_encoding = text_of(request[http::field::transfer_encoding]);
    head.expect = text_of(request[http::field::expect]);
    head.request_id = text_of(request["X-Request-Id"]);
    return head;
}

http_failure body_too_long(std::size_t bytes_max) {
    return {413,
            {errc::line_too_long, "the body is longer than " + std::to_string(bytes_max) +
                                      " bytes; send less, or raise server.max_line_bytes"}};
}

http_failure head_too_long(std::size_t bytes_max) {
    return {431, {errc::line_too_long, "the head is longer than " + std::to_string(bytes_max) + " bytes; send less"}};
}

} // namespace

http_failure http_failure_of(error why) {
    const auto status = describe(why.code).http_status;
    return {status, std::move(why)};
}

struct http_parser::state {
    request_parser parser;
    http_head head;
    std::size_t body_wire_bytes = 0; // as sent, with the marks of chunks
    bool head_done = false;
};

http_parser::http_parser(std::size_t head_bytes_max, std::size_t body_bytes_max)
    : head_bytes_max_(head_bytes_max), body_bytes_max_(body_bytes_max) {
    reset();
}

http_parser::~http_parser() = default;

void http_parser::reset() {
    state_ = std::make_unique<state>();
    state_->parser.header_limit(static_cast<std::uint32_t>(head_bytes_max_));
    state_->parser.body_limit(body_bytes_max_);
}

tl::expected<std::size_t, http_failure> http_parser::take(std::string_view bytes) {
    auto& parser = state_->parser;
    std::size_t used = 0;
    while (used < bytes.size() && !done()) {
        boost::beast::error_code failure;
        const auto rest = bytes.substr(used);
        const auto step = parser.put(boost::asio::const_buffer(rest.data(), rest.size()), failure);
        used += step;
        if (failure == http::error::need_more || (!failure && step == 0 && !parser.is_header_done())) {
            // What cannot be taken yet is a head, or the line of a chunk: it has a bound in both cases.
            if (rest.size() - step > head_bytes_max_)
                return tl::unexpected<http_failure>(head_too_long(head_bytes_max_));
            break;
        }
        if (failure == http::error::header_limit)
            return tl::unexpected<http_failure>(head_too_long(head_bytes_max_));
        if (failure == http::error::body_limit)
            return tl::unexpected<http_failure>(body_too_long(body_bytes_max_));
        if (failure == http::error::bad_version)
            return tl::unexpected<http_failure>(
                http_failure{505, {errc::unsupported, "only HTTP/1.1 and HTTP/1.0 are spoken here"}});
        if (failure)
            return tl::unexpected<http_failure>(
                http_failure{400, {errc::invalid_argument, "not an HTTP request: " + failure.message()}});
        if (!state_->head_done && parser.is_header_done()) {
            state_->head_done = true;
            state_->head = head_of(parser);
            break;
        }
        if (step == 0)
            break;
        // A byte in a chunk of its own costs six on the wire; more than that is not a body but a way to keep us busy.
        constexpr std::size_t wire_factor_max = 8;
        state_->body_wire_bytes += step;
        if (state_->body_wire_bytes / wire_factor_max > body_bytes_max_ + head_bytes_max_)
            return tl::unexpected<http_failure>(body_too_long(body_bytes_max_));
    }
    return used;
}

bool http_parser::begun() const noexcept {
    return state_->parser.got_some();
}
bool http_parser::head_done() const noexcept {
    return state_->head_done;
}
bool http_parser::done() const noexcept {
    return state_->head_done && state_->parser.is_done();
}
const http_head& http_parser::head() const noexcept {
    return state_->head;
}
std::string http_parser::take_body() {
    return std::move(state_->parser.get().body());
}

} // namespace moira
