#include "tests/actors/tcp_client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

tcp_client::tcp_client(const std::string& address, int receive_buffer_bytes) {
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    peer.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer_bytes > 0)
        ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&peer), sizeof peer) != 0) {
        ::close(socket_);
        socket_ = -1;
    }
}

tcp_client::~tcp_client() {
    if (socket_ >= 0)
        ::close(socket_);
}

bool tcp_client::send(std::string_view bytes) {
    while (!bytes.empty()) {
        const auto sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
}

bool tcp_client::receive() {
    pollfd waiting{socket_, POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(std::chrono::milliseconds(patience).count())) <= 0)
        return false;
    char bytes[16'384];
    const auto count = ::recv(socket_, bytes, sizeof bytes, 0);
    if (count > 0)
        buffer_.append(bytes, static_cast<std::size_t>(count));
    return count > 0;
}

std::optional<nlohmann::json> tcp_client::line() {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    for (;;) {
        if (const auto end = buffer_.find('\n'); end != std::string::npos) {
            auto value = nlohmann::json::parse(buffer_.substr(0, end), nullptr, false);
            buffer_.erase(0, end + 1);
            return value;
        }
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd waiting{socket_, POLLIN, 0};
        if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) <= 0)
            return std::nullopt;
        char bytes[16'384];
        const auto count = ::recv(socket_, bytes, sizeof bytes, 0);
        if (count <= 0)
            return std::nullopt;
        buffer_.append(bytes, static_cast<std::size_t>(count));
    }
}

std::optional<nlohmann::json> tcp_client::last_line_of(const std::string& id) {
    for (auto value = line(); value; value = line())
        if (value->value("id", nlohmann::json()) == id && (value->contains("done") || value->contains("error")))
            return value;
    return std::nullopt;
}

bool tcp_client::closed_by_peer() {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < deadline) {
        pollfd waiting{socket_, POLLIN, 0};
        if (::poll(&waiting, 1, 1'000) <= 0)
            continue;
        char bytes[16'384];
        if (::recv(socket_, bytes, sizeof bytes, 0) <= 0)
            return true;
    }
    return false;
}

void tcp_client::half_close() {
    ::shutdown(socket_, SHUT_WR);
}

void tcp_client::reset() {
    const linger at_once{1, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    ::close(socket_);
    socket_ = -1;
}
