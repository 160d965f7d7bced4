#pragma once

#include "actors/http_session.hpp"
#include "tests/actors/http_replies.hpp"

#include <doctest/doctest.h>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace http_test {

using namespace moira;

inline http_site site_with(std::vector<std::string> keys) {
    http_site site;
    site.keys = std::move(keys);
    site.identity.model = "tiny";
    site.identity.context_max = 128;
    site.id_prefix = "t-";
    site.unix_time_s = [] { return std::int64_t{1'795'500'000}; };
    return site;
}

/// A session and what it gave back.
struct conversation {
    explicit conversation(const http_limits& limits = {}, std::vector<std::string> keys = {})
        : site(site_with(std::move(keys))), session(limits, site, tags) {}

    void say(std::string_view text) {
        session.receive(text);
        go_on();
    }

    void go_on() {
        session_output output;
        more = session.process(output);
        take(output);
    }

    void hear(const output_event& event) {
        session_output output;
        session.deliver(event, {}, output);
        take(output);
        go_on();
    }

    void take(session_output& output) {
        bytes += output.bytes;
        for (auto& action : output.actions)
            actions.push_back(std::move(action));
    }

    std::optional<http_reply_read> reply(bool head_only = false) {
        auto read = take_reply(bytes, malformed, head_only);
        REQUIRE(!malformed);
        return read;
    }

    /// The reply to one request; it must be the only one.
    http_reply_read ask(std::string_view request, bool head_only = false) {
        say(request);
        const auto read = reply(head_only);
        REQUIRE(read);
        CHECK(bytes.empty());
        return *read;
    }

    template <class Action>
    std::size_t count() const {
        std::size_t found = 0;
        for (const auto& action : actions)
            found += std::holds_alternative<Action>(action) ? 1 : 0;
        return found;
    }

    const submit_action* submitted() const {
        const submit_action* found = nullptr;
        for (const auto& action : actions)
            if (const auto* submit = std::get_if<submit_action>(&action))
                found = submit;
        return found;
    }

    /// One word for the request that runs.
    void word(const std::string& text) {
        output_event event;
        event.tag = submitted()->tag;
        event.tokens.push_back({7, text});
        hear(event);
    }

    void end(finish_reason reason, const std::string& text, std::optional<error> failure = {}) {
        generation_result outcome;
        outcome.reason = reason;
        outcome.text = text;
        outcome.failure = std::move(failure);
        outcome.prompt_tokens = 3;
        outcome.completion_tokens = 2;
        outcome.cached_tokens = 1;
        hear({submitted()->tag, {}, {}, std::move(outcome)});
    }

    http_site site;
    tag_counter tags;
    http_session session;
    std::string bytes;
    bool malformed = false, more = false;
    std::vector<session_action> actions;
};

inline std::string get(const std::string& path, const std::string& fields = "") {
    return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n";
}

inline std::string post(const std::string& path, const std::string& body, const std::string& fields = "") {
    return "POST " + path +
           " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n" + fields + "\r\n" + body;
}

inline const std::string complete = "/v1/completions", chat = "/v1/chat/completions";
inline const std::string hello = R"({"prompt":"hello"})";

} // namespace http_test
