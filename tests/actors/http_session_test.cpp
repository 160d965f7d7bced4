#include "tests/actors/http_conversation.hpp"

using namespace http_test;

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
    CHECK(c.count<close_action>() == 0);
    CHECK(c.ask(post("/health", "{}")).status == 405); // its body is not read
    CHECK(c.count<close_action>() == 1);
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
    c.say("POST " + complete + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
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
    const auto third = c.ask(get("/health", "X-Request-Id: " + std::string(200, 'x') + "\r\n")).field("x-request-id");
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
    const auto refused = kept.ask("POST " + complete + " HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
                                  "\r\n\r\n" + body);
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

TEST_CASE("while loading everything that needs the model is refused, and the same connection is served afterwards") {
    conversation c;
    c.site.loading = true;
    for (const auto& request : {get("/health"), get("/metrics"), get("/v1/models"), get("/v1/models/tiny"),
                                post(complete, hello), post(chat, hello), post("/tokenize", hello)}) {
        const auto refused = c.ask(request);
        CHECK(refused.status == 503);
        CHECK(refused.code() == "loading");
        CHECK(!refused.field("retry-after").empty());
        CHECK(refused.field("connection") == "keep-alive");
    }
    CHECK(c.ask(get("/nothing")).status == 404);
    CHECK(c.actions.empty());
    c.site.loading = false;
    CHECK(c.ask(get("/health")).status == 200);
    c.say(post(complete, hello));
    CHECK(c.submitted() != nullptr);
}

TEST_CASE("while loading a key is still asked for") {
    conversation c({}, {"secret"});
    c.site.loading = true;
    CHECK(c.ask(get("/health")).status == 503);
    CHECK(c.ask(get("/v1/models")).status == 401);
    CHECK(c.ask(get("/v1/models", "Authorization: Bearer secret\r\n")).status == 503);
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
    c.hear({c.submitted()->tag + 1, {}, {}, generation_result{}});
    CHECK(c.bytes.empty());
    c.end(finish_reason::stop, "x");
    CHECK(c.reply());
    c.end(finish_reason::stop, "x");
    CHECK(c.bytes.empty());
}
