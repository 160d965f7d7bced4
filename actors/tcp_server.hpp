#pragma once

#include "actors/connection_session.hpp"
#include "actors/request_port.hpp"
#include "actors/tcp_limits.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace moira {

/// A listener and its connections on one thread of its own: the rules that all protocols share. Knows sockets and
/// sessions, no actors. The functions may be called from any thread but the server's own.
class tcp_server {
public:
    /// Listens on "HOST:PORT" (IPv6 in brackets; port 0 picks a free one) and starts the thread. `port` outlives the
    /// server. Errors: invalid_argument (not an address), io_error (it cannot be bound, names why).
    static result<std::unique_ptr<tcp_server>> start(std::string_view address, const tcp_limits& limits,
                                                     session_factory sessions, request_port& port);

    ~tcp_server();
    tcp_server(const tcp_server&) = delete;
    tcp_server& operator=(const tcp_server&) = delete;

    /// The bound address, "127.0.0.1:7420".
    const std::string& address() const noexcept;

    /// Changes what is behind the server: `first` runs on its thread, then all requests go to `port`, which outlives it.
    /// Returns when that is so. For a server whose port before has nothing running.
    void use_port(request_port& port, std::function<void()> first);

    /// News of running requests. Events of one tag keep their order.
    void deliver(std::shared_ptr<const output_batch> news);

    void deliver_statistics(std::uint64_t ticket, result<std::shared_ptr<const runtime_statistics>> statistics);

    void deliver_text(std::uint64_t ticket, result<text_answer> answer);

    /// Answers new requests with `draining`, those of new connections too, closes each connection when its last request
    /// is done, at the latest after `drain_timeout`, and then stops listening. `done` is called once, on the server's thread or from stop().
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
