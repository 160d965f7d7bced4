#include "actors/http_session.hpp"
#include "tests/actors/http_replies.hpp"
#include "tests/actors/served_runtime.hpp"

#include <doctest/doctest.h>
#include <future>
#include <sys/resource.h>
#include <unistd.h>

using namespace moira;
using namespace std::chrono_literals;

namespace {

struct served : served_runtime {
    explicit served(const tcp_limits& limits = {}, fake_runtime::options with = {}, std::vector<std::string> keys = {})
        : served_runtime(limits, http_sessions(std::move(keys), {}), with) {}
};

std::string get(const std::string& path) {
    return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n";
}

std::string complete(int tokens, bool stream = false) {
    const auto body = nlohmann::json{{"prompt", "x"}, {"max_tokens", tokens}, {"stream", stream}}.dump();
    return "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::optional<http_reply_read> reply(tcp_client& client) {
    bool malformed = false;
    for (;;) {
        if (auto read = take_reply(client.unread(), malformed))
            return read;
        if (malformed || !client.receive())
            return std::nullopt;
    }
}

} // namespace

TEST_CASE("a completion over a socket, streamed and not, with kept connection") {
    served s;
    tcp_client client(s.address());
    REQUIRE(client.send(complete(3)));
    const auto whole = reply(client);
    REQUIRE(whole);
    CHECK(whole->json()["choices"][0]["text"] == "t0 t1 t2 ");
    REQUIRE(client.send(complete(3, true)));
    const auto streamed = reply(client);
    REQUIRE(streamed);
    std::string text;
    const auto events = streamed->events();
    REQUIRE(events.size() == 5);
    for (std::size_t i = 0; i + 1 < events.size(); ++i)
        text += nlohmann::json::parse(events[i])["choices"][0]["text"].get<std::string>();
    CHECK(text == "t0 t1 t2 ");
    CHECK(s.server->statistics().connections == 1);
    CHECK(s.server->statistics().requests == 0);
}

TEST_CASE("requests behind a running one are answered after it, in order") {
    served s;
    tcp_client client(s.address());
    std::string many;
    for (int i = 0; i < 50; ++i)
        many += complete(1 + i % 3) + get("/metrics");
    REQUIRE(client.send(many));
    for (int i = 0; i < 50; ++i) {
        const auto answer = reply(client);
        REQUIRE(answer);
        CHECK(answer->json()["usage"]["completion_tokens"] == 1 + i % 3);
        const auto metrics = reply(client);
        REQUIRE(metrics);
        CHECK(metrics->body.find("moira_http_connections 1") != std::string::npos);
    }
}

TEST_CASE("texts go through the tokenizer, and no more than a bound wait for it") {
    {
        served s;
        tcp_client client(s.address());
        const std::string ask = "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"A\"}";
        REQUIRE(client.send(ask));
        CHECK(reply(client)->json()["token_ids"] == nlohmann::json{65});
        tcp_limits limits;
        limits.texts_waiting_max = 1;
        served stalled(limits, {.paused = true});
        tcp_client first(stalled.address()), second(stalled.address());
        REQUIRE(first.send(ask));
        REQUIRE(first.send(get("/health")));
        REQUIRE(soon([&] { return stalled.server->statistics().connections == 2; }));
        std::this_thread::sleep_for(50ms); // lets the first one arrive
        REQUIRE(second.send(ask));
        CHECK(reply(second)->status == 429);
    }
}

TEST_CASE("a client that leaves, by FIN, half-close or RST, ends its request, streamed or not") {
    for (const bool stream : {false, true})
        for (const auto* how : {"close", "half", "reset"}) {
            served s({}, {.paused = true});
            auto client = std::make_unique<tcp_client>(s.address());
            REQUIRE(client->send(complete(endless, stream)));
            REQUIRE(soon([&] { return s.runtime.running() == 1; }));
            if (how[0] == 'h')
                client->half_close();
            else if (how[0] == 'r')
                client->reset();
            else
                client.reset();
            CHECK_MESSAGE(soon([&] { return s.runtime.cancelled() == 1; }), how);
            CHECK(soon([&] { return s.server->statistics().connections == 0; }));
        }
}

TEST_CASE("half a request and then silence is 408, silence alone just ends") {
    tcp_limits limits;
    limits.line_timeout = 50ms;
    limits.idle_timeout = 200ms;
    for (const std::string& begun :
         {std::string("GET /hea"),
          std::string("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")}) {
        served s(limits);
        tcp_client slow(s.address());
        REQUIRE(slow.send(begun));
        const auto told = reply(slow);
        REQUIRE(told);
        CHECK(told->status == 408);
        CHECK(slow.closed_by_peer());
    }
    served s(limits);
    tcp_client quiet(s.address());
    CHECK(!reply(quiet));
    CHECK(quiet.unread().empty());
    tcp_client used(s.address());
    REQUIRE(used.send(get("/health")));
    CHECK(reply(used)->status == 200);
    CHECK(!reply(used));
}

TEST_CASE("a body over the limit is told although more bytes are on their way") {
    tcp_limits limits;
    limits.http.body_bytes_max = 10'000;
    served s(limits);
    tcp_client client(s.address());
    client.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" +
                std::string(300'000, 'x'));
    const auto told = reply(client);
    REQUIRE(told);
    CHECK(told->status == 413);
    CHECK(client.closed_by_peer());
}

TEST_CASE("a connection over the limit gets 503 at once, the others stay") {
    tcp_limits limits;
    limits.connections_max = 1;
    served s(limits);
    tcp_client first(s.address());
    REQUIRE(soon([&] { return s.server->statistics().connections == 1; }));
    tcp_client second(s.address());
    const auto told = reply(second);
    REQUIRE(told);
    CHECK(told->status == 503);
    CHECK(told->code() == "too_many_connections");
    CHECK(second.closed_by_peer());
    REQUIRE(first.send(get("/health")));
    CHECK(reply(first)->status == 200);
}

TEST_CASE("a client that does not read its stream is cut off, the others are not disturbed") {
    tcp_limits limits;
    limits.write_timeout = 100ms;
    served s(limits, {.token_bytes = 2'000});
    tcp_client stalled(s.address(), 4'096);
    REQUIRE(stalled.send(complete(endless, true)));
    tcp_client reader(s.address());
    REQUIRE(reader.send(complete(300)));
    const auto done = reply(reader);
    REQUIRE(done);
    CHECK(done->json()["usage"]["completion_tokens"] == 300);
    CHECK(soon([&] { return s.server->statistics().closed_slow == 1; }));
    CHECK(soon([&] { return s.runtime.cancelled() == 1; }));
    CHECK(soon([&] { return s.server->statistics().connections == 1; }));
}

TEST_CASE("draining lets running streams end, then closes") {
    tcp_limits limits;
    limits.linger = 20ms;
    served s(limits, {.paused = true});
    tcp_client busy(s.address()), idle(s.address());
    REQUIRE(busy.send(complete(2, true)));
    REQUIRE(soon([&] { return s.runtime.running() == 1 && s.server->statistics().connections == 2; }));
    std::promise<void> drained;
    s.server->drain([&] { drained.set_value(); });
    CHECK(idle.closed_by_peer());
    tcp_client balancer(s.address());
    REQUIRE(balancer.send(get("/health")));
    const auto health = reply(balancer);
    REQUIRE(health);
    CHECK(health->status == 503);
    CHECK(health->code() == "draining");
    tcp_client scraper(s.address());
    REQUIRE(scraper.send(get("/metrics")));
    const auto metrics = reply(scraper);
    REQUIRE(metrics);
    CHECK(metrics->status == 200);
    s.runtime.step();
    s.runtime.step();
    const auto done = reply(busy);
    REQUIRE(done);
    CHECK(done->events().back() == "[DONE]");
    CHECK(drained.get_future().wait_for(tcp_client::patience) == std::future_status::ready);
    CHECK(busy.closed_by_peer());
    CHECK(s.server->statistics().connections == 0);
}

TEST_CASE("running out of descriptors pauses accepting and nothing else") {
    tcp_limits limits;
    limits.accept_pause = 10ms;
    served s(limits);
    tcp_client before(s.address());
    REQUIRE(before.send(get("/health")));
    REQUIRE(reply(before));
    rlimit original{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &original) == 0);
    // Room for the client's own socket, none for the server's end of it.
    const int next_free = ::dup(0);
    ::close(next_free);
    rlimit low = original;
    low.rlim_cur = static_cast<rlim_t>(next_free) + 1;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
    tcp_client starved(s.address());
    REQUIRE(starved.send(get("/health")));
    REQUIRE(before.send(get("/health")));
    CHECK(reply(before));
    CHECK(s.server->statistics().accepted == 1);
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &original) == 0);
    CHECK(reply(starved));
}
