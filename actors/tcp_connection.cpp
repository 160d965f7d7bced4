#include "actors/tcp_connection.hpp"

#include <asio/buffer.hpp>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <utility>

namespace moira {

namespace {

/// A failure of one of these costs latency or a later notice, never correctness: ignored.
void set_options(asio::ip::tcp::socket& socket, const tcp_limits& limits) {
    asio::error_code ignored;
    socket.set_option(asio::ip::tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
    socket.set_option(asio::socket_base::send_buffer_size(limits.send_buffer_bytes), ignored);
    const auto timeout_ms = static_cast<unsigned>(limits.user_timeout.count());
    ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

} // namespace

tcp_connection::tcp_connection(asio::ip::tcp::socket socket, std::uint64_t number, const tcp_limits& limits,
                               std::unique_ptr<connection_session> session, connection_host& host)
    : socket_(std::move(socket)), number_(number), limits_(limits), session_(std::move(session)), host_(host),
      read_buffer_(limits.read_bytes), opened_(clock::now()), active_(opened_), progress_(opened_),
      message_began_(opened_), lingering_since_(opened_), quiet_since_(opened_) {}

void tcp_connection::start() {
    set_options(socket_, limits_);
    read();
}

void tcp_connection::refuse(const error& why) {
    set_options(socket_, limits_);
    close_after(why);
    read();
}

void tcp_connection::read() {
    if (reading_ || state_ == state::closed || (state_ == state::open && paused()))
        return;
    reading_ = true;
    socket_.async_read_some(asio::buffer(read_buffer_),
                            [self = shared_from_this()](const asio::error_code& failure, std::size_t bytes) {
                                self->received(failure, bytes);
                            });
}

void tcp_connection::received(const asio::error_code& failure, std::size_t bytes) {
    reading_ = false;
    if (state_ == state::closed)
        return;
    if (failure)
        return cut(); // a half-close counts as gone: nobody who leaves waits for an answer
    if (state_ == state::open) {
        active_ = clock::now();
        session_->receive({read_buffer_.data(), bytes});
        take_messages();
    }
    read();
}

void tcp_connection::take_messages() {
    session_output output;
    more_ = session_->process(output);
    const bool message_open = session_->partial();
    if (message_open && (!message_open_ || !output.bytes.empty() || !output.actions.empty()))
        message_began_ = clock::now();
    message_open_ = message_open;
    apply(std::move(output));
    write();
}

/// The bytes wait for write() or flush().
void tcp_connection::apply(session_output output) {
    queue_ += output.bytes;
    for (auto& action : output.actions) {
        if (auto* submit = std::get_if<submit_action>(&action))
            host_.submit(number_, submit->tag, std::move(submit->input));
        else if (const auto* cancel = std::get_if<cancel_action>(&action))
            host_.cancel(cancel->tag);
        else if (std::holds_alternative<statistics_action>(action))
            host_.request_statistics(number_);
        else if (const auto* fault = std::get_if<fault_action>(&action))
            host_.inject_fault(fault->part);
        else if (auto* text = std::get_if<text_action>(&action))
            host_.request_text(number_, std::move(text->question));
        else
            close_gently();
    }
}

void tcp_connection::deliver(const output_event& event, const expert_store_statistics& experts) {
    if (state_ != state::open)
        return;
    if (!in_burst_ && waiting_bytes() > limits_.write_queue_bytes_max)
        return cut(true);
    in_burst_ = true;
    session_output output;
    session_->deliver(event, experts, output);
    apply(std::move(output));
    if (event.finished)
        note_answer();
}

void tcp_connection::deliver_statistics(const result<std::shared_ptr<const runtime_statistics>>& statistics,
                                        const tcp_statistics& server) {
    if (state_ != state::open)
        return;
    session_output output;
    session_->deliver_statistics(statistics, server, output);
    apply(std::move(output));
    note_answer();
}

void tcp_connection::deliver_text(const result<text_answer>& answer) {
    if (state_ != state::open)
        return;
    session_output output;
    session_->deliver_text(answer, output);
    apply(std::move(output));
    note_answer();
}

void tcp_connection::note_answer() {
    active_ = quiet_since_ = clock::now();
    answered_ = true;
}

void tcp_connection::flush() {
    in_burst_ = false;
    // What came while an answer was owed is handled now, unless the client must read first.
    if (std::exchange(answered_, false) && state_ == state::open && !more_)
        return take_messages();
    if (state_ != state::closed)
        write();
}

void tcp_connection::write() {
    if (writing_ || state_ == state::closed)
        return;
    if (written_ == in_flight_.size()) {
        // Swapping keeps both capacities; a burst's must not stay for good.
        constexpr std::size_t kept_bytes_max = std::size_t{64} << 10;
        in_flight_.clear();
        if (in_flight_.capacity() > kept_bytes_max)
            in_flight_.shrink_to_fit();
        written_ = 0;
        std::swap(in_flight_, queue_);
        progress_ = clock::now();
    }
    if (in_flight_.empty()) {
        if (state_ == state::closing)
            begin_linger();
        return;
    }
    writing_ = true;
    socket_.async_write_some(asio::buffer(in_flight_.data() + written_, in_flight_.size() - written_),
                             [self = shared_from_this()](const asio::error_code& failure, std::size_t bytes) {
                                 self->written(failure, bytes);
                             });
}

void tcp_connection::written(const asio::error_code& failure, std::size_t bytes) {
    writing_ = false;
    if (state_ == state::closed)
        return;
    if (failure)
        return cut();
    written_ += bytes;
    progress_ = clock::now();
    write();
    if (state_ != state::open)
        return;
    // Half of the pause mark, so that reading does not flicker.
    if (more_ && waiting_bytes() < limits_.write_queue_bytes_max / 8)
        take_messages();
    read();
}

void tcp_connection::close_after(const error& why) {
    queue_ += session_->last_words(why);
    close_gently();
    write();
}

void tcp_connection::close_gently() {
    if (state_ != state::open)
        return;
    abandon_requests();
    state_ = state::closing;
}

void tcp_connection::begin_linger() {
    state_ = state::lingering;
    lingering_since_ = clock::now();
    asio::error_code ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    read();
}

void tcp_connection::abandon_requests() {
    for (const auto tag : session_->running())
        host_.abandon(tag);
}

void tcp_connection::cut(bool slow) {
    if (state_ == state::closed)
        return;
    if (state_ == state::open)
        abandon_requests();
    state_ = state::closed;
    asio::error_code ignored;
    socket_.close(ignored);
    host_.forget(number_, slow);
}

void tcp_connection::drain() {
    draining_ = true;
    session_->drain();
    quiet_since_ = clock::now();
}

void tcp_connection::sweep(clock::time_point now) {
    if (state_ == state::lingering && now - lingering_since_ > limits_.linger)
        return cut();
    if (writing_ && now - progress_ > limits_.write_timeout)
        return cut(true);
    if (state_ == state::open)
        sweep_open(now);
}

void tcp_connection::sweep_open(clock::time_point now) {
    if (paused())
        message_began_ = now; // the client cannot end its line while nobody reads
    if (message_open_ && now - message_began_ > limits_.line_timeout)
        return close_after({errc::too_slow, "a line or request was begun and not ended in time; send it whole"});
    if (!session_->authenticated() && now - opened_ > limits_.line_timeout)
        return close_after({errc::too_slow, "no key came in time; send one first"});
    if (!session_->idle() || waiting_bytes() != 0)
        return;
    if (draining_ && now - quiet_since_ > limits_.drain_grace) {
        close_gently();
        return write();
    }
    if (limits_.idle_timeout.count() > 0 && now - active_ > limits_.idle_timeout)
        close_after({errc::too_slow, "the connection was idle for too long; connect again when needed"});
}

} // namespace moira
