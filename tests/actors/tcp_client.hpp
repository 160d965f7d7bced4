#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

/// A plain blocking client: what a stranger with a socket can do, misbehaviour included. Every wait is bounded
/// generously; a test fails instead of hanging.
class tcp_client {
public:
    static constexpr std::chrono::seconds patience{30};

    /// `receive_buffer_bytes`: a small one makes a reader that stalls visible early; 0 keeps the default.
    explicit tcp_client(const std::string& address, int receive_buffer_bytes = 0);
    ~tcp_client();
    tcp_client(const tcp_client&) = delete;
    tcp_client& operator=(const tcp_client&) = delete;

    /// False when the peer has closed.
    bool send(std::string_view bytes);

    /// The next line decoded; nothing when the peer closed or patience ended.
    std::optional<nlohmann::json> line();

    /// Waits for more bytes and adds them to unread(). False when the peer closed or patience ended.
    bool receive();
    std::string& unread() { return buffer_; }

    /// Reads lines up to the last one of `id`: that one.
    std::optional<nlohmann::json> last_line_of(const std::string& id);

    /// True when the peer closed within patience; what came before is dropped.
    bool closed_by_peer();

    void half_close();

    /// Closes with RST instead of FIN.
    void reset();

private:
    int socket_ = -1;
    std::string buffer_;
};
