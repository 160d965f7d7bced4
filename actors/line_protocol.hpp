#pragma once

#include "actors/output_event.hpp"
#include "actors/request_json.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace moira {

/// Bounds of one connection's protocol, each with the reason for its default.
struct line_limits {
    std::size_t line_bytes_max = std::size_t{1} << 20; ///< a prompt of about 250,000 tokens; buffered per connection
    std::size_t requests_max = 64;  ///< running at once; more only waits in the batcher (measured, Asio beside CAF)
    std::size_t id_bytes_max = 256; ///< an id comes back in every line
    std::size_t auth_line_bytes_max = 4'096;                ///< before a key was shown nobody may fill a buffer
    std::size_t statistics_waiting_max = 16;                ///< questions for statistics without an answer yet
    bool faults_allowed = false;         ///< server.fault_injection: an order for tests, on loopback only
    std::size_t output_bytes_pause = std::size_t{64} << 10; ///< answers ahead of which no further line is taken
};

/// What a session wants done, in order.
struct submit_action {
    std::uint64_t tag;
    std::shared_ptr<const generation_input> input;
};
struct cancel_action {
    std::uint64_t tag;
};
struct statistics_action {};
/// End a part of the runtime as a crash would; only with line_limits::faults_allowed.
struct fault_action {
    std::string part;
};
struct close_action {
    errc code; ///< why; the error line is already among the lines
};
using session_action = std::variant<submit_action, cancel_action, statistics_action, fault_action, close_action>;

struct session_output {
    std::string lines; ///< bytes for the client
    std::vector<session_action> actions;
};

/// Gives every request of a server a number of its own. Not thread-safe.
class tag_counter {
public:
    std::uint64_t next() noexcept { return ++last_; }

private:
    std::uint64_t last_ = 0;
};

/// The line protocol of one connection, as a plain state machine without sockets and clocks: bytes and events in, lines
/// and actions out. Never throws; any bytes are taken. Not thread-safe. Borrows keys, identity and counter.
class line_session {
public:
    /// Without keys every client may ask.
    line_session(const line_limits& limits, std::span<const std::string> keys, const runtime_identity& identity,
                 tag_counter& tags);

    /// Takes what arrived. Handles nothing yet; after close it is dropped.
    void receive(std::string_view bytes);

    /// Handles complete lines until there are none or `output.lines` has reached `output_bytes_pause`. True while
    /// complete lines are left: call again when the client has read its answers, and read no more before that.
    bool process(session_output& output);

    /// Turns news into lines. Unknown tags are dropped. `experts` goes into final lines.
    void deliver(const output_event& event, const expert_store_statistics& experts, session_output& output);

    /// Answers every waiting question for statistics.
    void deliver_statistics(const result<std::shared_ptr<const runtime_statistics>>& statistics,
                            session_output& output);

    /// From now on new requests are answered with `draining`.
    void drain() noexcept { draining_ = true; }

    /// An error line with no id, for reasons that lie outside a line (time, connections).
    static std::string error_line(const error& why);

    /// The tags of running requests, for cancelling them when the client is gone.
    std::vector<std::uint64_t> running() const;
    bool idle() const noexcept { return requests_.empty() && statistics_waiting_ == 0; }
    bool authenticated() const noexcept { return authenticated_; }
    bool partial_line() const noexcept { return !closed_ && !buffer_.empty(); }

private:
    struct running_request {
        std::string id;
        std::string quoted_id; // as JSON, for every line
        bool stream = true;
        bool cancelling = false;
    };

    void take_line(std::string_view line, session_output& output);
    void take_object(const nlohmann::json& object, const std::optional<std::string>& id, session_output& output);
    void take_key(const nlohmann::json& object, session_output& output);
    void take_cancel(const nlohmann::json& object, session_output& output);
    void take_ping(const nlohmann::json& object, session_output& output);
    void take_statistics(const nlohmann::json& object, session_output& output);
    void take_fault(const nlohmann::json& object, session_output& output);
    void take_request(const nlohmann::json& object, session_output& output);
    void finish(const running_request& request, const generation_result& outcome,
                const expert_store_statistics& experts, session_output& output) const;
    void close(const error& why, session_output& output);
    bool knows(std::string_view key) const noexcept;

    line_limits limits_;
    std::span<const std::string> keys_;
    const runtime_identity& identity_;
    tag_counter& tags_;
    std::string buffer_;
    std::size_t searched_ = 0; // bytes of buffer_ known to hold no line end
    std::unordered_map<std::uint64_t, running_request> requests_;
    std::unordered_map<std::string, std::uint64_t> tags_of_ids_;
    std::size_t statistics_waiting_ = 0;
    bool authenticated_ = false, draining_ = false, closed_ = false;
};

} // namespace moira
