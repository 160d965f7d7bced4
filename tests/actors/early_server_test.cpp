#include "actors/early_server.hpp"
#include "tests/actors/fake_runtime.hpp"
#include "tests/actors/http_replies.hpp"
#include "tests/actors/tcp_client.hpp"

#include <atomic>
#include <doctest/doctest.h>
#include <thread>
#include <vector>

using namespace moira;
using namespace std::chrono_literals;

namespace {

/// A server that starts early, and the runtime that comes later.
struct starting {
    explicit starting(gateway_protocol protocol, std::vector<std::string> keys = {}) {
        auto started = early_server::start(protocol, "127.0.0.1:0", {}, std::move(keys));
        REQUIRE(started);
        early = std::move(*started);
        address = early->address();
    }
    ~starting() {
        runtime.leave();
        server.reset();
    }
    void warm() {
        runtime_identity identity;
        identity.model = "tiny";
        server = early->serve(runtime, identity);
        REQUIRE(server);
        runtime.serve(*server);
    }

    std::string address;
    fake_runtime runtime;
    std::shared_ptr<early_server> early;
    std::unique_ptr<tcp_server> server;
};

std::string get(const std::string& path) {
    return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n";
}

std::string complete() {
    const std::string body = R"({"prompt":"x","max_tokens":2})";
    return "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
}

std::optional<http_reply_read> ask(tcp_client& client, const std::string& request) {
    bool malformed = false;
    if (!client.send(request))
        return std::nullopt;
    for (;;) {
        if (auto read = take_reply(client.unread(), malformed))
            return read;
        if (malformed || !client.receive())
            return std::nullopt;
    }
}

} // namespace

TEST_CASE("a server is there before its model, says so, and serves the same connection afterwards") {
    starting s(gateway_protocol::http);
    tcp_client client(s.address);
    const auto early = ask(client, get("/health"));
    REQUIRE(early);
    CHECK(early->status == 503);
    CHECK(early->code() == "loading");
    const auto refused = ask(client, complete());
    REQUIRE(refused);
    CHECK(refused->status == 503);
    CHECK(s.runtime.submitted() == 0);
    s.warm();
    const auto health = ask(client, get("/health"));
    REQUIRE(health);
    CHECK(health->status == 200);
    const auto models = ask(client, get("/v1/models"));
    REQUIRE(models);
    CHECK(models->json()["data"][0]["id"] == "tiny");
    const auto done = ask(client, complete());
    REQUIRE(done);
    CHECK(done->status == 200);
    CHECK(s.server->address() == s.address);
}

TEST_CASE("lines are refused while loading and served afterwards, on the same connection") {
    starting s(gateway_protocol::lines, {"k"});
    tcp_client client(s.address);
    REQUIRE(client.send("{\"auth\":\"k\"}\n{\"id\":\"a\",\"prompt\":\"x\"}\n"));
    const auto refused = client.line();
    REQUIRE(refused);
    CHECK((*refused)["error"]["code"] == "loading");
    CHECK((*refused)["id"] == "a");
    s.warm();
    REQUIRE(client.send("{\"id\":\"a\",\"prompt\":\"x\",\"max_tokens\":2}\n"));
    const auto done = client.last_line_of("a");
    REQUIRE(done);
    CHECK((*done)["finish_reason"] == "length");
}

TEST_CASE(
    "no request is lost at the moment of the change: each is answered, and after the first success none is refused") {
    starting s(gateway_protocol::http);
    std::atomic<bool> enough{false};
    std::atomic<int> lost{0}, refused_late{0}, served{0};
    std::vector<std::thread> clients;
    for (int i = 0; i < 8; ++i)
        clients.emplace_back([&, keep = i % 2 == 0] {
            auto client = std::make_unique<tcp_client>(s.address);
            bool was_served = false;
            while (!enough) {
                const auto answer = ask(*client, complete());
                if (!answer || (answer->status != 200 && answer->code() != "loading")) {
                    ++lost;
                    return;
                }
                if (answer->status == 200)
                    ++served;
                else if (was_served)
                    ++refused_late;
                was_served = was_served || answer->status == 200;
                if (!keep)
                    client = std::make_unique<tcp_client>(s.address);
            }
        });
    std::this_thread::sleep_for(20ms);
    s.warm();
    const auto deadline = std::chrono::steady_clock::now() + tcp_client::patience;
    while (served < 100 && lost == 0 && std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(1ms);
    enough = true;
    for (auto& client : clients)
        client.join();
    CHECK(served >= 100);
    CHECK(lost == 0);
    CHECK(refused_late == 0);
}

TEST_CASE("a request that is cut in two by the change is served") {
    starting s(gateway_protocol::http);
    tcp_client client(s.address);
    const auto request = complete();
    REQUIRE(client.send(request.substr(0, request.size() / 2)));
    s.warm();
    const auto done = ask(client, request.substr(request.size() / 2));
    REQUIRE(done);
    CHECK(done->status == 200);
}

TEST_CASE("a server that never gets a model closes its connections when it ends") {
    std::unique_ptr<tcp_client> client;
    {
        starting s(gateway_protocol::http);
        client = std::make_unique<tcp_client>(s.address);
        REQUIRE(ask(*client, get("/health")));
        s.early.reset();
    }
    CHECK(client->closed_by_peer());
}

TEST_CASE("an address that cannot be bound is refused at once") {
    const auto nonsense = early_server::start(gateway_protocol::http, "nowhere", {}, {});
    REQUIRE_FALSE(nonsense);
    CHECK(nonsense.error().code == errc::invalid_argument);
    starting s(gateway_protocol::lines);
    const auto taken = early_server::start(gateway_protocol::http, s.address, {}, {});
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == errc::io_error);
}
