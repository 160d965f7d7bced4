#include "actors/http_session.hpp"
#include "tests/actors/http_replies.hpp"

#include <doctest/doctest.h>

using namespace moira;
using nlohmann::json;

namespace {

http_site site_with(std::vector<std::string> keys) {
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
        output_event event;
        event.tag = submitted()->tag;
        event.finished.emplace();
        event.finished->reason = reason;
        event.finished->text = text;
        event.finished->failure = std::move(failure);
        event.finished->prompt_tokens = 3;
        event.finished->completion_tokens = 2;
        event.finished->cached_tokens = 1;
        hear(event);
    }

    http_site site;
    tag_counter tags;
    http_session session;
    std::string bytes;
    bool malformed = false, more = false;
    std::vector<session_action> actions;
};

std::string get(const std::string& path, const std::string& fields = "") {
    return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n";
}

std::string post(const std::string& path, const std::string& body, const std::string& fields = "") {
    return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n" + fields + "\r\n" + body;
}

const std::string complete = "/v1/completions", chat = "/v1/chat/completions";
const std::string hello = R"({"prompt":"hello"})";

} // namespace

TEST_CASE("a completion is answered in OpenAI's shape with moira beside usage") {
    conversation c;
    c.say(post(complete, R"({"model":"tiny","prompt":"hi","max_tokens":2,"seed":5,"stop":"x","odd":1})"));
    REQUIRE(c.submitted());
    const auto& input = *c.submitted()->input;
    CHECK(input.prompt == "hi");
    CHECK(input.max_tokens == 2);
    CHECK(input.seed == 5u);
    CHECK(input.stop == std::vector<std::string>{"x"});
    CHECK(!c.session.idle());
    CHECK(c.session.running() == std::vector<std::uint64_t>{c.submitted()->tag});
    c.end(finish_reason::length, "a b");
    const auto reply = c.reply();
    REQUIRE(reply);
    CHECK(reply->status == 200);
    CHECK(reply->field("content-type") == "application/json");
    CHECK(reply->field("date") == "Tue, 24 Nov 2026 06:00:00 GMT");
    const auto body = reply->json();
    CHECK(body["object"] == "text_completion");
    CHECK(body["model"] == "tiny");
    CHECK(body["choices"][0]["text"] == "a b");
    CHECK(body["choices"][0]["finish_reason"] == "length");
    CHECK(body["usage"]["total_tokens"] == 5);
    CHECK(body["usage"]["prompt_tokens_details"]["cached_tokens"] == 1);
    CHECK(body["moira"]["ignored"] == json{"odd"});
    CHECK(c.session.idle());
    CHECK(c.count<close_action>() == 0);
}

TEST_CASE("a chat completion is answered with a message") {
    conversation c;
    c.say(post(chat, R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
                        "max_completion_tokens":3,"n":1,"tools":[],"temperature":null,"logprobs":false})"));
    REQUIRE(c.submitted());
    REQUIRE(c.submitted()->input->messages);
    CHECK(c.submitted()->input->messages->at(0).content == "ab");
    CHECK(c.submitted()->input->max_tokens == 3);
    c.end(finish_reason::stop, "yes");
    const auto body = c.reply()->json();
    CHECK(body["object"] == "chat.completion");
    CHECK(body["choices"][0]["message"]["role"] == "assistant");
    CHECK(body["choices"][0]["message"]["content"] == "yes");
}

TEST_CASE("a stream sends its head with the first token, then events, usage and [DONE]") {
    conversation c;
    c.say(post(chat, R"({"messages":[{"role":"user","content":"a"}],"stream":true,
                        "stream_options":{"include_usage":true}})"));
    CHECK(c.bytes.empty());
    c.word("he");
    CHECK(c.bytes.starts_with("HTTP/1.1 200 "));
    c.word("");
    c.word("y");
    c.end(finish_reason::stop, "hey");
    const auto reply = c.reply();
    REQUIRE(reply);
    CHECK(reply->field("content-type") == "text/event-stream");
    const auto events = reply->events();
    REQUIRE(events.size() == 6); // role, he, y, finish, usage, [DONE]
    CHECK(events.back() == "[DONE]");
    CHECK(json::parse(events[0])["choices"][0]["delta"]["role"] == "assistant");
    CHECK(json::parse(events[1])["choices"][0]["delta"]["content"] == "he");
    CHECK(json::parse(events[1])["usage"].is_null());
    CHECK(json::parse(events[3])["choices"][0]["finish_reason"] == "stop");
    const auto usage = json::parse(events[4]);
    CHECK(usage["choices"].empty());
    CHECK(usage["usage"]["completion_tokens"] == 2);
    CHECK(usage.contains("moira"));
    CHECK(c.session.idle());
}

TEST_CASE("without include_usage the finishing chunk carries moira, and text held back to the end comes out") {
    conversation c;
    c.say(post(complete, R"({"prompt":"a","stream":true})"));
    output_event event;
    event.tag = c.submitted()->tag;
    event.tail_text = "tail";
    event.finished.emplace();
    event.finished->reason = finish_reason::stop;
    c.hear(event);
    const auto events = c.reply()->events();
    REQUIRE(events.size() == 3);
    CHECK(json::parse(events[0])["choices"][0]["text"] == "tail");
    CHECK(!json::parse(events[0]).contains("usage"));
    CHECK(json::parse(events[1]).contains("moira"));
}

TEST_CASE("a failure before the first token has its status, one after it is an event") {
    for (const bool stream : {false, true}) {
        conversation c;
        c.say(post(complete, stream ? R"({"prompt":"a","stream":true})" : hello));
        c.end(finish_reason::error, "", error{errc::queue_full, "full"});
        const auto reply = c.reply();
        REQUIRE(reply);
        CHECK(reply->status == 429);
        CHECK(reply->code() == "queue_full");
        CHECK(reply->field("retry-after") == "1");
    }
    conversation c;
    c.say(post(complete, R"({"prompt":"a","stream":true})"));
    c.word("x");
    c.end(finish_reason::error, "x", error{errc::io_error, "disk"});
    const auto events = c.reply()->events();
    REQUIRE(events.size() == 3);
    CHECK(json::parse(events[1])["error"]["code"] == "io_error");
    CHECK(events[2] == "[DONE]");
}

TEST_CASE("known fields that cannot be served are named, harmless values of them are not") {
    const std::pair<const char*, const char*> refused[]{
        {"n", "2"},           {"logprobs", "5"},          {"logprobs", "0"},     {"echo", "true"},
        {"suffix", "\"x\""},  {"logit_bias", "{\"5\":1}"}, {"best_of", "3"},      {"presence_penalty", "0.5"},
        {"tools", "[{}]"},    {"response_format", "{\"type\":\"json_object\"}"}, {"tool_choice", "\"required\""}};
    for (const auto& [name, value] : refused) {
        conversation c;
        const auto reply =
            c.ask(post(complete, R"({"prompt":"a",")" + std::string(name) + "\":" + value + "}"));
        CHECK_MESSAGE(reply.status == 400, name);
        CHECK(reply.code() == "unsupported");
        CHECK(reply.json()["error"]["param"] == name);
        CHECK(reply.json()["error"]["type"] == "invalid_request_error");
    }
    conversation c;
    c.say(post(complete, R"({"prompt":"a","n":1,"best_of":1,"echo":false,"suffix":null,"logit_bias":{},
                            "presence_penalty":0,"frequency_penalty":0.0,"response_format":{"type":"text"},
                            "tool_choice":"auto","logprobs":null,"user":"u"})"));
    CHECK(c.submitted());
}

TEST_CASE("wrong values are refused with the field") {
    const std::pair<const char*, const char*> wrong[]{
        {R"({"prompt":"a","temperature":-1})", "temperature"}, {R"({"prompt":"a","max_tokens":0})", "max_tokens"},
        {R"({"prompt":"a","stream":1})", "stream"},            {R"({"messages":[]})", "messages"},
        {R"({"prompt":["a","b"]})", "prompt"},                 {R"({})", "prompt"},
        {R"({"prompt":"a","stream_options":{}})", "stream_options"},
        {R"({"prompt":"a","max_tokens":1,"max_completion_tokens":2})", "max_completion_tokens"},
        {R"({"prompt":[1,-2]})", "prompt[1]"}};
    for (const auto& [body, name] : wrong) {
        conversation c;
        const auto reply = c.ask(post(complete, body));
        CHECK_MESSAGE(reply.status == 400, body);
        CHECK_MESSAGE(reply.json()["error"]["param"] == name, body);
        CHECK(c.session.idle());
    }
}

TEST_CASE("a prompt may be ids, and a list of one") {
    for (const auto* body : {R"({"prompt":[1,2]})", R"({"prompt":[[1,2]]})"}) {
        conversation c;
        c.say(post(complete, body));
        REQUIRE(c.submitted());
        CHECK(c.submitted()->input->ids == std::vector<token_id>{1, 2});
    }
    conversation c;
    c.say(post(complete, R"({"prompt":["one"]})"));
    REQUIRE(c.submitted());
    CHECK(c.submitted()->input->prompt == "one");
}

TEST_CASE("another model than the served one is not found") {
    conversation c;
    const auto reply = c.ask(post(complete, R"({"model":"gpt","prompt":"a"})"));
    CHECK(reply.status == 404);
    CHECK(reply.code() == "not_found");
}

TEST_CASE("models, health and what is not there") {
    conversation c;
    CHECK(c.ask(get("/v1/models")).json()["data"][0]["context_length"] == 128);
    CHECK(c.ask(get("/v1/models/tiny")).json()["id"] == "tiny");
    CHECK(c.ask(get("/v1/models/other")).status == 404);
    CHECK(c.ask(get("/health?x=1")).json()["status"] == "ok");
    CHECK(c.ask(get("http://somewhere/health")).status == 200);
    CHECK(c.ask(get("/nothing")).status == 404);
    const auto head = c.ask("HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n", true);
    CHECK(head.status == 200);
    const auto method = c.ask("DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(method.status == 405);
    CHECK(method.field("allow") == "GET");
    CHECK(c.ask(post("/health", "{}")).status == 405);
    CHECK(c.count<close_action>() == 0);
}

TEST_CASE("metrics and texts are asked for and answered later") {
    conversation c;
    c.say(get("/metrics"));
    CHECK(c.count<statistics_action>() == 1);
    CHECK(!c.session.idle());
    session_output output;
    runtime_statistics statistics;
    statistics.batch.running = 4;
    c.session.deliver_statistics(std::make_shared<const runtime_statistics>(statistics), {}, output);
    c.take(output);
    const auto metrics = c.reply();
    REQUIRE(metrics);
    CHECK(metrics->body.find("\nmoira_running_requests 4\n") != std::string::npos);
    for (const auto& [path, body, found] :
         {std::tuple{"/tokenize", R"({"prompt":"a"})", "token_ids"}, {"/detokenize", R"({"tokens":[5]})", "text"}}) {
        c.say(post(path, body));
        session_output text;
        c.session.deliver_text(text_answer{{1, 2}, "x"}, text);
        c.take(text);
        CHECK(c.reply()->json().contains(found));
    }
    CHECK(c.count<text_action>() == 2);
    c.say(post("/tokenize", R"({"prompt":"a"})"));
    session_output refused;
    c.session.deliver_text(fail(errc::unsupported, "no tokenizer"), refused);
    c.take(refused);
    CHECK(c.reply()->code() == "unsupported");
    CHECK(c.ask(post("/tokenize", "{}")).status == 400);
    CHECK(c.ask(post("/detokenize", R"({"tokens":"x"})")).json()["error"]["param"] == "tokens");
}

TEST_CASE("every limit of a request has its status") {
    http_limits limits;
    limits.body_bytes_max = 1'000;
    limits.request_line_bytes_max = 100;
    limits.head_bytes_max = 1'000;
    const auto long_text = std::string(2'000, 'x');
    const std::pair<std::string, int> requests[]{
        {post(complete, long_text), 413},
        {"POST " + complete + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + long_text, 413},
        {get("/" + std::string(200, 'x')), 414},
        {"GET /" + long_text, 414},
        {get("/health", "Odd: " + long_text + "\r\n"), 431},
        {"GET / HTTP/2.0\r\n\r\n", 505},
        {"\x16\x03\x01 nonsense\r\n\r\n", 400},
        {"GET /health HTTP/1.1\r\n\r\n", 400},
        {"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
        {"GET /h\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {post(complete, hello, "Transfer-Encoding: chunked\r\n"), 400},
        {post(complete, hello, "Content-Length: 5\r\n"), 400},
        {post(complete, hello, "Content-Encoding: gzip\r\n"), 415},
        {"POST " + complete + " HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415},
        {"POST " + complete + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
        {post(complete, hello, "Expect: a miracle\r\n"), 417},
    };
    for (const auto& [request, status] : requests) {
        conversation c(limits);
        c.say(request);
        const auto reply = c.reply();
        REQUIRE_MESSAGE(reply, request.substr(0, 60));
        CHECK_MESSAGE(reply->status == status, request.substr(0, 60));
        CHECK(!reply->code().empty());
        // Where a body was not read the connection cannot go on.
        const bool closes = reply->field("connection") == "close";
        CHECK(closes == (c.count<close_action>() == 1));
        if (status == 413 || status == 431 || status == 414)
            CHECK(closes);
        if (closes) {
            c.say(get("/health"));
            CHECK(c.bytes.empty());
        }
    }
}

TEST_CASE("bytes may come one at a time, and requests all at once") {
    const auto request = post(complete, hello, "X-Request-Id: mine\r\n");
    conversation slow;
    for (std::size_t i = 0; i < request.size(); ++i) {
        CHECK(slow.session.partial() == (i > 0));
        slow.say(request.substr(i, 1));
    }
    REQUIRE(slow.submitted());
    CHECK(!slow.session.partial());
    slow.end(finish_reason::stop, "x");
    CHECK(slow.reply()->field("x-request-id") == "mine");

    conversation fast;
    fast.say(get("/health") + request + get("/v1/models") + "\r\n" + request + "GET");
    CHECK(fast.reply()->status == 200);
    CHECK(!fast.reply());
    CHECK(fast.count<submit_action>() == 1);
    fast.end(finish_reason::stop, "1");
    CHECK(fast.reply()->json()["choices"][0]["text"] == "1");
    CHECK(fast.reply()->json()["object"] == "list");
    CHECK(fast.count<submit_action>() == 2);
    fast.end(finish_reason::stop, "2");
    CHECK(fast.reply()->json()["choices"][0]["text"] == "2");
    CHECK(fast.session.partial());
}

TEST_CASE("a chunked body is taken, and 100-continue answered when the body is waited for") {
    conversation c;
    c.say("POST " + complete +
          " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    CHECK(c.bytes == "HTTP/1.1 100 Continue\r\n\r\n");
    c.bytes.clear();
    c.say("8\r\n{\"prompt\r\n5;ext=1\r\n\":\"a\"\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n");
    REQUIRE(c.submitted());
    CHECK(c.submitted()->input->prompt == "a");
    conversation known;
    known.say(post(complete, hello, "Expect: 100-continue\r\n"));
    CHECK(known.bytes.empty());
    CHECK(known.submitted());
    conversation refused({}, {"k"});
    refused.say("POST " + complete + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    CHECK(refused.reply()->status == 401);
    CHECK(refused.count<close_action>() == 1);
}

TEST_CASE("keys are asked for before a body is read, except for health") {
    conversation c({}, {"secret"});
    CHECK(!c.session.authenticated());
    CHECK(c.ask(get("/health")).status == 200);
    const auto refused = c.ask(get("/v1/models"));
    CHECK(refused.status == 401);
    CHECK(refused.code() == "unauthorized");
    CHECK(refused.field("www-authenticate") == "Bearer");
    CHECK(c.ask(get("/nothing")).status == 401);
    CHECK(c.ask(get("/v1/models", "Authorization: Bearer secre\r\n")).status == 401);
    CHECK(c.ask(get("/v1/models", "Authorization: Basic secret\r\n")).status == 401);
    CHECK(!c.session.authenticated());
    CHECK(c.ask(get("/v1/models", "authorization: bearer secret\r\n")).status == 200);
    CHECK(c.session.authenticated());
    CHECK(c.ask(get("/v1/models")).status == 401);
}

TEST_CASE("a request id comes back when it is usable, and is made otherwise") {
    conversation c;
    CHECK(c.ask(get("/health", "X-Request-Id: abc-1\r\n")).field("x-request-id") == "abc-1");
    const auto first = c.ask(get("/health")).field("x-request-id");
    const auto second = c.ask(get("/health", "X-Request-Id: a b\r\n")).field("x-request-id");
    const auto third =
        c.ask(get("/health", "X-Request-Id: " + std::string(200, 'x') + "\r\n")).field("x-request-id");
    CHECK(first.starts_with("req-t-"));
    CHECK(first != second);
    CHECK(second != third);
    CHECK(third.starts_with("req-t-"));
}

TEST_CASE("HTTP/1.0 and Connection: close end the connection; streaming needs 1.1") {
    conversation old;
    CHECK(old.ask("GET /health HTTP/1.0\r\n\r\n").field("connection") == "close");
    CHECK(old.count<close_action>() == 1);
    conversation kept;
    CHECK(kept.ask("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").field("connection") == "keep-alive");
    const std::string body = R"({"prompt":"a","stream":true})";
    const auto refused = kept.ask("POST " + complete + " HTTP/1.0\r\nContent-Length: " +
                                  std::to_string(body.size()) + "\r\n\r\n" + body);
    CHECK(refused.status == 400);
    CHECK(refused.json()["error"]["param"] == "stream");
    conversation closing;
    closing.say(post(complete, R"({"prompt":"a","stream":true})", "Connection: close\r\n"));
    closing.word("x");
    CHECK(closing.count<close_action>() == 0);
    closing.end(finish_reason::stop, "x");
    CHECK(closing.reply()->field("connection") == "close");
    CHECK(closing.count<close_action>() == 1);
}

TEST_CASE("while draining what runs ends, new requests are refused and the connection closes") {
    conversation c;
    c.say(post(complete, hello));
    c.session.drain();
    c.end(finish_reason::stop, "x");
    CHECK(c.reply()->field("connection") == "close");
    CHECK(c.count<close_action>() == 1);
    conversation late;
    late.session.drain();
    const auto refused = late.ask(post(complete, hello));
    CHECK(refused.status == 503);
    CHECK(refused.code() == "draining");
    conversation health;
    health.session.drain();
    CHECK(health.ask(get("/health")).status == 503);
    conversation stopped;
    stopped.say(post(complete, hello));
    stopped.session.drain();
    stopped.end(finish_reason::cancelled, "");
    CHECK(stopped.reply()->code() == "draining");
}

TEST_CASE("too many bytes behind a running request end the connection with its answer") {
    http_limits limits;
    limits.pipelined_bytes_max = 1'000;
    conversation c(limits);
    c.say(post(complete, hello));
    for (int i = 0; i < 100; ++i)
        c.say(get("/health"));
    c.end(finish_reason::stop, "x");
    CHECK(c.reply()->field("connection") == "close");
    CHECK(c.bytes.empty());
    CHECK(c.count<close_action>() == 1);
}

TEST_CASE("answers that pile up stop the session from taking more requests") {
    http_limits limits;
    limits.output_bytes_pause = 1'000;
    conversation c(limits);
    std::string many;
    for (int i = 0; i < 100; ++i)
        many += get("/health");
    c.say(many);
    CHECK(c.more);
    CHECK(c.bytes.size() < 2'000);
    while (c.more)
        c.go_on();
    int replies = 0;
    while (c.reply())
        ++replies;
    CHECK(replies == 100);
}

TEST_CASE("the last words of a server are a whole reply, except to a client that was only silent") {
    conversation c;
    CHECK(c.session.last_words({errc::too_slow, "idle"}).empty());
    c.bytes = c.session.last_words({errc::too_many_connections, "full"});
    CHECK(c.reply()->status == 503);
    c.say("GET /hea");
    c.bytes = c.session.last_words({errc::too_slow, "half a request"});
    const auto slow = c.reply();
    REQUIRE(slow);
    CHECK(slow->status == 408);
    CHECK(slow->field("connection") == "close");
}

TEST_CASE("events of others and news after the end are dropped") {
    conversation c;
    c.say(post(complete, hello));
    output_event other;
    other.tag = c.submitted()->tag + 1;
    other.finished.emplace();
    c.hear(other);
    CHECK(c.bytes.empty());
    c.end(finish_reason::stop, "x");
    CHECK(c.reply());
    c.end(finish_reason::stop, "x");
    CHECK(c.bytes.empty());
}
