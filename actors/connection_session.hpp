#pragma once

#include "actors/output_event.hpp"
#include "actors/runtime_statistics.hpp"
#include "actors/text_question.hpp"
#include "core/base/error.hpp"
#include "core/batch/generation_input.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace moira {

struct tcp_limits;

/// What a session wants done, in order.
struct submit_action {
    std::uint64_t tag;
    std::shared_ptr<const generation_input> input;
};
struct cancel_action {
    std::uint64_t tag;
};
struct statistics_action {};
/// End a part of the runtime as a crash would; only where faults are allowed.
struct fault_action {
    std::string part;
};
struct text_action {
    text_question question;
};
struct close_action {
    errc code; ///< why, `cancelled` when the client asked for it; what the client should read is already in the bytes
};
using session_action = std::variant<submit_action, cancel_action, statistics_action, text_action, fault_action,
                                    close_action>;

struct session_output {
    std::string bytes; ///< for the client
    std::vector<session_action> actions;
};

/// Gives every request of a server a number of its own. Not thread-safe.
class tag_counter {
public:
    std::uint64_t next() noexcept { return ++last_; }

private:
    std::uint64_t last_ = 0;
};

/// Counters of a server since its start; `connections` and `requests` are now.
struct tcp_statistics {
    std::size_t connections = 0, requests = 0;
    std::uint64_t accepted = 0, refused = 0, closed_slow = 0;
};

/// The protocol of one connection, as a plain state machine without sockets and clocks: bytes and events in, bytes and
/// actions out. Takes any bytes and never throws. Used by one thread.
class connection_session {
public:
    virtual ~connection_session() = default;

    /// Takes what arrived. Handles nothing yet; after a close_action it is dropped.
    virtual void receive(std::string_view bytes) = 0;

    /// Handles complete messages until there are none, or there are enough answers that the client should read first.
    /// True in the second case: call again when it has, and read no more before that.
    virtual bool process(session_output& output) = 0;

    /// Turns news into bytes. Unknown tags are dropped. `experts` goes into final replies. May let a message that
    /// waited become next: call process() after a last event.
    virtual void deliver(const output_event& event, const expert_store_statistics& experts, session_output& output) = 0;

    /// Answers every waiting question for statistics.
    virtual void deliver_statistics(const result<std::shared_ptr<const runtime_statistics>>& statistics,
                                    const tcp_statistics& server, session_output& output) = 0;

    /// Answers the text_action.
    virtual void deliver_text(const result<text_answer>& answer, session_output& output) = 0;

    /// From now on new requests are answered with `draining`.
    virtual void drain() noexcept = 0;

    /// What a client reads before it is left for a reason outside its messages (time, connections). May be empty.
    virtual std::string last_words(const error& why) const = 0;

    /// The tags of running requests, for cancelling them when the client is gone.
    virtual std::vector<std::uint64_t> running() const = 0;
    virtual bool idle() const noexcept = 0;          ///< nothing runs and no question waits
    virtual bool authenticated() const noexcept = 0; ///< false: the client still owes a key
    virtual bool partial() const noexcept = 0;       ///< a message was begun and not ended
};

/// What the sessions of one server share; they borrow it. Changes on the server's thread only.
struct session_site {
    std::vector<std::string> keys; ///< empty: everybody may ask
    runtime_identity identity;     ///< empty while loading
    bool loading = false;          ///< the model is not there yet: whatever needs it is answered with `loading`
};

/// Makes the session of a new connection. Called on the server's thread; limits and counter outlive the session.
using session_factory = std::function<std::unique_ptr<connection_session>(const tcp_limits&, tag_counter&)>;

} // namespace moira
