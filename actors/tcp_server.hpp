#pragma once

#include "actors/request_port.hpp"
#include "actors/tcp_limits.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// Counters since the start; `connections` and `requests` are now.
struct tcp_statistics {
    std::size_t connections = 0, requests = 0;
    std::uint64_t accepted = 0, refused = 0, closed_slow = 0;
};

/// A listener and its connections on one thread of its own. Knows sockets and lines, no actors. The functions may be
/// called from any thread but the server's own.
class tcp_server {
public:
    /// Listens on "HOST:PORT" (IPv6 in brackets; port 0 picks a free one) and starts the thread. `port` outlives the
    /// server. Errors: invalid_argument (not an address), io_error (it cannot be bound, names why).
    static result<std::unique_ptr<tcp_server>> start(std::string_view address, const tcp_limits& limits,
                                                     std::vector<std::string> keys, runtime_identity identity,
                                                     request_port& port);

    ~tcp_server();
    tcp_server(const tcp_server&) = delete;
    tcp_server& operator=(const tcp_server&) = delete;

    /// The bound address, "127.0.0.1:7420".
    const std::string& address() const noexcept;

    /// News of running requests. Events of one tag keep their order.
    void deliver(std::shared_ptr<const output_batch> news);

    void deliver_statistics(std::uint64_t ticket, result<std::shared_ptr<const runtime_statistics>> statistics);

    /// Stops accepting, answers new requests with `draining`, closes each connection when its last request is done, at
    /// the latest after `drain_timeout`. `done` is called once, on the server's thread or from stop().
    void drain(std::function<void()> done);

    /// Closes everything now, cancels what runs and joins the thread. Safe to call again.
    void stop();

    tcp_statistics statistics() const;

private:
    class impl;
    explicit tcp_server(std::unique_ptr<impl> parts);
    std::unique_ptr<impl> impl_;
};

} // namespace moira
