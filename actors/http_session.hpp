#pragma once

#include "actors/connection_session.hpp"
#include "actors/http_limits.hpp"
#include "actors/http_parser.hpp"
#include "actors/http_reply.hpp"
#include "actors/openai_json.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// What the HTTP sessions of one server share.
struct http_site : session_site {
    std::string id_prefix;                     ///< makes ids differ between two starts of a server
    std::function<std::int64_t()> unix_time_s; ///< for Date and `created`
    std::int64_t started_s = 0;
};

enum class http_route { models, model, health, metrics, completions, chat_completions, tokenize, detokenize };

/// A request whose answer is owed.
struct http_exchange {
    http_route to = http_route::health;
    std::uint64_t tag = 0; ///< of a generation
    bool stream = false, stream_begun = false;
    openai_reply shape;
    std::vector<std::string> ignored;
};

/// HTTP/1.1 and 1.0 of one connection: one request at a time, those behind it wait. Borrows site and counter.
///
///   GET  /v1/models, /v1/models/NAME, /health, /metrics
///   POST /v1/completions, /v1/chat/completions, /tokenize, /detokenize
class http_session final : public connection_session {
public:
    using route = http_route;

    http_session(const http_limits& limits, const http_site& site, tag_counter& tags);

    void receive(std::string_view bytes) override;
    bool process(session_output& output) override;
    void deliver(const output_event& event, const expert_store_statistics& experts, session_output& output) override;
    void deliver_statistics(const result<std::shared_ptr<const runtime_statistics>>& statistics,
                            const tcp_statistics& server, session_output& output) override;
    void deliver_text(const result<text_answer>& answer, session_output& output) override;
    void drain() noexcept override { draining_ = true; }
    /// A whole reply; nothing for a client that has only been silent: it might take it for the answer to what it is
    /// about to ask.
    std::string last_words(const error& why) const override;
    std::vector<std::uint64_t> running() const override;
    bool idle() const noexcept override { return !exchange_; }
    bool authenticated() const noexcept override { return authenticated_; }
    bool partial() const noexcept override;

private:
    bool advance(session_output& output);
    bool judge_head(session_output& output);
    std::optional<http_failure> failure_of_head(const http_head& head);
    std::optional<http_failure> find_route(const http_head& head);
    void take_request(session_output& output);
    void take_generation(const nlohmann::json& object, session_output& output);
    void take_text(const nlohmann::json& object, session_output& output);
    void stream_tokens(const output_event& event, session_output& output);
    void finish_stream(const generation_result& outcome, const expert_store_statistics& experts,
                       session_output& output);
    error failure_of(const generation_result& outcome) const;
    http_reply reply_head(int status) const;
    void reply(int status, std::string_view content_type, std::string_view body, session_output& output);
    void reply_json(const nlohmann::ordered_json& value, session_output& output);
    void refuse(const http_failure& failure, session_output& output);
    void end_reply(session_output& output);

    http_limits limits_;
    const http_site& site_;
    tag_counter& tags_;
    http_parser parser_;
    std::string buffer_; // not yet taken by the parser
    std::optional<http_exchange> exchange_;

    // Of the request that is read or answered now.
    bool head_judged_ = false;
    route route_ = route::health;
    std::string model_name_, request_id_, allowed_method_;
    bool keep_alive_ = true, head_only_ = false, http_1_0_ = false;

    bool authenticated_, draining_ = false, closed_ = false;
    bool overrun_ = false; // bytes were dropped: nothing after this answer can be understood
};

/// Sessions of HTTP; the factory holds what they share.
session_factory http_sessions(std::vector<std::string> keys, runtime_identity identity);

/// The same of a site that may still change.
session_factory http_sessions(std::shared_ptr<const http_site> site);
std::shared_ptr<http_site> make_http_site(std::vector<std::string> keys, runtime_identity identity);

} // namespace moira
