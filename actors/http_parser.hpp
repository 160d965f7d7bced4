#pragma once

#include "core/base/error.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace moira {

/// A request that cannot be served, and the status that says so: not every status has an error code of its own.
struct http_failure {
    int status = 400;
    error why;
};

/// The status that the table of errors gives.
http_failure http_failure_of(error why);

/// What of a request's head the server looks at. Absent fields are empty.
struct http_head {
    std::string method, target;
    bool http_1_0 = false;
    bool keep_alive = false;
    std::size_t hosts = 0; ///< number of Host fields
    std::string authorization, content_type, content_encoding, transfer_encoding, expect, request_id;
};

/// Reads one request after the other from a stream of hostile bytes: a push parser that knows no sockets. Memory is
/// bounded by the two limits; a body takes memory as it arrives, not as it was announced. Not thread-safe.
class http_parser {
public:
    http_parser(std::size_t head_bytes_max, std::size_t body_bytes_max);
    ~http_parser();
    http_parser(const http_parser&) = delete;
    http_parser& operator=(const http_parser&) = delete;

    /// Takes bytes from the front and says how many; the caller keeps the others and gives them again, with more behind
    /// them. Stops after the head, so that it can be judged before a body is stored, and after the body. Failures: 400,
    /// 413 (body), 431 (head), 501 (a transfer coding), 505; then only reset() helps.
    tl::expected<std::size_t, http_failure> take(std::string_view bytes);

    bool begun() const noexcept;     ///< some of a request was taken
    bool head_done() const noexcept; ///< head() is complete
    bool done() const noexcept;      ///< take_body() is complete; some requests have none
    const http_head& head() const noexcept;
    std::string take_body();

    /// Ready for the next request.
    void reset();

private:
    struct state;
    std::size_t head_bytes_max_, body_bytes_max_;
    std::unique_ptr<state> state_;
};

} // namespace moira
