#pragma once

#include <cstddef>

namespace moira {

/// Bounds of one HTTP connection's protocol, each with the reason for its default. Each is answered with its status.
struct http_limits {
    std::size_t head_bytes_max = std::size_t{16} << 10;        ///< request line and fields; browsers send 1-4 KB; 431
    std::size_t request_line_bytes_max = std::size_t{8} << 10; ///< the least that a server should take (RFC 9112); 414
    std::size_t body_bytes_max = std::size_t{1} << 20;         ///< as a line: a prompt of about 250,000 tokens; 413

    /// Bytes that follow a request whose answer is still owed. Reading goes on meanwhile, to notice a client that
    /// leaves; what is beyond is dropped and the connection ends with the answer.
    std::size_t pipelined_bytes_max = std::size_t{64} << 10;

    std::size_t output_bytes_pause = std::size_t{64} << 10; ///< answers ahead of which no further request is taken
    std::size_t request_id_bytes_max = 128; ///< a longer X-Request-Id is replaced, as one with odd characters
};

} // namespace moira
