#pragma once

#include "actors/http_limits.hpp"
#include "actors/line_protocol.hpp"

#include <chrono>
#include <cstddef>

namespace moira {

/// Every bound of the gateways, with the reason for its default. The setting that changes it stands in brackets.
struct tcp_limits {
    using milliseconds = std::chrono::milliseconds;

    /// [server.max_connections] Each may buffer one line: 256 MiB at most, 4 MiB when clients behave.
    std::size_t connections_max = 256;

    /// Connections over the limit, or new ones while draining, that are being told so; beyond, a new one is closed without
    /// a word.
    std::size_t refusals_max = 64;

    /// [server.max_requests_per_connection, server.max_line_bytes]
    line_limits lines;

    /// [server.max_line_bytes] for the body.
    http_limits http;

    /// Texts that wait for the tokenizer, of all connections: 64 MiB at most.
    std::size_t texts_waiting_max = 64;

    /// [server.idle_timeout_s] A connection without requests and without bytes; zero: no limit.
    milliseconds idle_timeout{300'000};

    /// [server.line_timeout_s] From the first byte of a line to its end, and from connecting to the key.
    milliseconds line_timeout{30'000};

    /// [server.write_timeout_s] Without one byte accepted by the peer: held in tests with slow readers at 5 s.
    milliseconds write_timeout{5'000};

    /// [server.max_write_queue_bytes] Output that the peer has not taken when more arrives. A healthy peer stays below
    /// 80 KB; reading stops at a quarter of it, so that answers to answers cannot pile up.
    std::size_t write_queue_bytes_max = std::size_t{256} << 10;

    /// [server.drain_timeout_s] Then what still runs is cancelled.
    milliseconds drain_timeout{30'000};

    /// How long a draining connection still answers `draining` after its last request.
    milliseconds drain_grace{50};

    /// Accepting rests this long when the process is out of descriptors.
    milliseconds accept_pause{100};

    /// A closing connection reads on this long: closing with unread bytes would tear the error line from the peer.
    milliseconds linger{1'000};

    /// TCP_USER_TIMEOUT: a peer that vanished without a packet (cable, power) is noticed after this.
    milliseconds user_timeout{20'000};

    /// SO_SNDBUF: a larger kernel buffer would only hide a slow reader.
    int send_buffer_bytes = 64 << 10;

    /// One read: a few lines of a busy client, allocated per connection.
    std::size_t read_bytes = std::size_t{16} << 10;
};

} // namespace moira
