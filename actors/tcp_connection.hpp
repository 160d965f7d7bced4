#pragma once

#include "actors/connection_session.hpp"
#include "actors/tcp_limits.hpp"

#include <asio/ip/tcp.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace moira {

/// What a connection asks of its server.
class connection_host {
public:
    virtual ~connection_host() = default;
    virtual void submit(std::uint64_t connection, std::uint64_t tag, std::shared_ptr<const generation_input> input) = 0;
    virtual void cancel(std::uint64_t tag) = 0;  ///< its last event is still wanted
    virtual void abandon(std::uint64_t tag) = 0; ///< nobody wants its events any more
    virtual void request_statistics(std::uint64_t connection) = 0;
    virtual void inject_fault(const std::string& part) = 0;
    virtual void request_text(std::uint64_t connection, text_question question) = 0;
    virtual void forget(std::uint64_t connection, bool slow) = 0; ///< its socket is closed
};

/// One client's socket around its session, whatever the protocol. A read is always pending (a vanished client is
/// noticed at once), except while answers pile up; one write is in flight, the rest is one string. Lives on the
/// server's thread.
class tcp_connection : public std::enable_shared_from_this<tcp_connection> {
public:
    using clock = std::chrono::steady_clock;

    tcp_connection(asio::ip::tcp::socket socket, std::uint64_t number, const tcp_limits& limits,
                   std::unique_ptr<connection_session> session, connection_host& host);

    /// Sets socket options and starts to read.
    void start();

    /// Tells the client why it is not served, then closes.
    void refuse(const error& why);

    /// Adds news to the output; flush() sends it. News of one burst count together against the write queue's bound.
    void deliver(const output_event& event, const expert_store_statistics& experts);
    void deliver_statistics(const result<std::shared_ptr<const runtime_statistics>>& statistics,
                            const tcp_statistics& server);
    void deliver_text(const result<text_answer>& answer);
    void flush();

    /// Closes when the last request is done.
    void drain();

    /// Looks at the clocks; the server calls it several times per shortest timeout.
    void sweep(clock::time_point now);

    /// Cancels what runs and closes the socket.
    void cut(bool slow = false);

    std::uint64_t number() const noexcept { return number_; }

private:
    enum class state { open, closing, lingering, closed };

    void read();
    void received(const asio::error_code& failure, std::size_t bytes);
    void take_messages();
    void apply(session_output output);
    void note_answer();
    void write();
    void written(const asio::error_code& failure, std::size_t bytes);
    void close_after(const error& why);
    void close_gently();
    void begin_linger();
    void abandon_requests();
    void sweep_open(clock::time_point now);
    std::size_t waiting_bytes() const noexcept { return queue_.size() + in_flight_.size() - written_; }
    bool paused() const noexcept { return more_ || waiting_bytes() > limits_.write_queue_bytes_max / 4; }

    asio::ip::tcp::socket socket_;
    std::uint64_t number_;
    const tcp_limits& limits_;
    std::unique_ptr<connection_session> session_;
    connection_host& host_;
    state state_ = state::open;
    bool reading_ = false, writing_ = false, more_ = false, in_burst_ = false, draining_ = false;
    bool message_open_ = false;
    bool answered_ = false; // since the last flush: a message that waited may be next
    std::vector<char> read_buffer_;
    std::string queue_, in_flight_;
    std::size_t written_ = 0; // bytes of in_flight_
    clock::time_point opened_, active_, progress_, message_began_, lingering_since_, quiet_since_;
};

} // namespace moira
