#pragma once

#include "core/base/error.hpp"

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>

namespace moira {

/// A listening socket that goes on accepting whatever happens: out of descriptors, it rests and tries again.
class tcp_listener {
public:
    tcp_listener(asio::io_context& io, std::chrono::milliseconds pause,
                 std::function<void(asio::ip::tcp::socket)> accepted);

    /// Binds "HOST:PORT" and listens; the bound address. Errors: invalid_argument, io_error.
    result<std::string> open(std::string_view address);

    /// Accepts until close(). Handlers run on the io_context, which the listener must outlive.
    void accept();
    void close();

private:
    void rest();

    asio::io_context& io_;
    asio::ip::tcp::acceptor acceptor_;
    asio::steady_timer timer_;
    std::chrono::milliseconds pause_;
    std::function<void(asio::ip::tcp::socket)> accepted_;
};

} // namespace moira
