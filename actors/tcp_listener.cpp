#include "actors/tcp_listener.hpp"

#include <charconv>
#include <cstdint>
#include <utility>

namespace moira {

namespace {

using asio::ip::tcp;

tl::unexpected<error> not_an_address(std::string_view text) {
    return fail(errc::invalid_argument,
                "\"" + std::string(text) +
                    "\" is not an address; write HOST:PORT, for IPv6 [HOST]:PORT, port 0 to 65535");
}

result<tcp::endpoint> resolve(asio::io_context& io, std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0)
        return not_an_address(text);
    auto host = text.substr(0, colon);
    const auto port_text = text.substr(colon + 1);
    std::uint16_t port = 0;
    const auto* const end = port_text.data() + port_text.size();
    const auto parsed = std::from_chars(port_text.data(), end, port);
    if (parsed.ec != std::errc{} || parsed.ptr != end)
        return not_an_address(text);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']')
        host = host.substr(1, host.size() - 2);
    else if (host.find(':') != std::string_view::npos)
        return not_an_address(text);
    asio::error_code failure;
    const auto number = asio::ip::make_address(std::string(host), failure);
    if (!failure)
        return tcp::endpoint(number, port);
    tcp::resolver resolver(io);
    const auto found = resolver.resolve(std::string(host), std::string(port_text), failure);
    if (failure || found.empty())
        return fail(errc::invalid_argument, "host \"" + std::string(host) + "\" is not known: " + failure.message());
    return found.begin()->endpoint();
}

std::string shown(const tcp::endpoint& endpoint) {
    auto host = endpoint.address().to_string();
    if (endpoint.address().is_v6())
        host = "[" + host + "]";
    return host + ":" + std::to_string(endpoint.port());
}

} // namespace

tcp_listener::tcp_listener(asio::io_context& io, std::chrono::milliseconds pause,
                           std::function<void(tcp::socket)> accepted)
    : io_(io), acceptor_(io), timer_(io), pause_(pause), accepted_(std::move(accepted)) {}

result<std::string> tcp_listener::open(std::string_view address) {
    const auto endpoint = resolve(io_, address);
    if (!endpoint)
        return tl::unexpected<error>(endpoint.error());
    asio::error_code failure;
    acceptor_.open(endpoint->protocol(), failure);
    if (!failure)
        acceptor_.set_option(tcp::acceptor::reuse_address(true), failure); // a restart need not wait for TIME_WAIT
    if (!failure)
        acceptor_.bind(*endpoint, failure);
    if (!failure)
        acceptor_.listen(asio::socket_base::max_listen_connections, failure);
    tcp::endpoint bound;
    if (!failure)
        bound = acceptor_.local_endpoint(failure);
    if (failure)
        return fail(errc::io_error, "cannot listen on " + std::string(address) + ": " + failure.message() +
                                        "; choose another port, or 0 for any free one");
    return shown(bound);
}

void tcp_listener::accept() {
    acceptor_.async_accept([this](const asio::error_code& failure, tcp::socket socket) {
        if (!acceptor_.is_open())
            return;
        if (failure == asio::error::connection_aborted) // the client left the backlog
            return accept();
        if (failure)
            return rest();
        accepted_(std::move(socket));
        accept();
    });
}

void tcp_listener::rest() {
    timer_.expires_after(pause_);
    timer_.async_wait([this](const asio::error_code& failure) {
        if (!failure && acceptor_.is_open())
            accept();
    });
}

void tcp_listener::close() {
    asio::error_code ignored;
    acceptor_.close(ignored);
    timer_.cancel();
}

} // namespace moira
