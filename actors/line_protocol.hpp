#pragma once

#include "actors/connection_session.hpp"
#include "actors/request_json.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
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

/// The line protocol of one connection. Borrows site and counter.
class line_session final : public connection_session {
public:
    /// Without keys every client may ask.
    line_session(const line_limits& limits, const session_site& site, tag_counter& tags);

    void receive(std::string_view bytes) override;
    bool process(session_output& output) override;
    void deliver(const output_event& event, const expert_store_statistics& experts, session_output& output) override;
    void deliver_statistics(const result<std::shared_ptr<const runtime_statistics>>& statistics,
                            const tcp_statistics& server, session_output& output) override;
    void deliver_text(const result<text_answer>&, session_output&) override {} // never asked for
    void drain() noexcept override { draining_ = true; }
    /// An error line with no id.
    std::string last_words(const error& why) const override;
    std::vector<std::uint64_t> running() const override;
    bool idle() const noexcept override { return requests_.empty() && statistics_waiting_ == 0; }
    bool authenticated() const noexcept override { return authenticated_; }
    bool partial() const noexcept override { return !closed_ && !buffer_.empty(); }

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

    line_limits limits_;
    const session_site& site_;
    tag_counter& tags_;
    std::string buffer_;
    std::size_t searched_ = 0; // bytes of buffer_ known to hold no line end
    std::unordered_map<std::uint64_t, running_request> requests_;
    std::unordered_map<std::string, std::uint64_t> tags_of_ids_;
    std::size_t statistics_waiting_ = 0;
    bool authenticated_ = false, draining_ = false, closed_ = false;
};

/// Sessions of the line protocol; the factory holds keys and identity for them. Without keys every client may ask.
session_factory line_sessions(std::vector<std::string> keys, runtime_identity identity);

/// The same of a site that may still change.
session_factory line_sessions(std::shared_ptr<const session_site> site);

} // namespace moira
