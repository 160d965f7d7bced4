#include "actors/line_protocol.hpp"
#include "tests/actors/served_runtime.hpp"

#include <doctest/doctest.h>
#include <future>
#include <set>
#include <sys/resource.h>
#include <unistd.h>

using namespace moira;
using namespace std::chrono_literals;

namespace {

struct served : served_runtime {
    explicit served(const tcp_limits& limits = {}, fake_runtime::options with = {}, std::vector<std::string> keys = {})
        : served_runtime(limits, line_sessions(std::move(keys), {}), with) {}
};

std::string request(const std::string& id, int tokens, bool stream = true) {
    const nlohmann::json line{{"id", id}, {"prompt", "x"}, {"max_tokens", tokens}, {"stream", stream}};
    return line.dump().append("\n");
}

std::string code_of(const std::optional<nlohmann::json>& line) {
    return line && line->contains("error") ? (*line)["error"]["code"].get<std::string>() : "";
}

} // namespace

TEST_CASE("a request over a socket streams its tokens and ends") {
    served s;
    tcp_client client(s.address());
    REQUIRE(client.send(request("a1", 3)));
    std::string text;
    for (int i = 0; i < 3; ++i) {
        const auto line = client.line();
        REQUIRE(line);
        CHECK((*line)["token"] == i);
        text += (*line)["text"].get<std::string>();
    }
    const auto done = client.line();
    REQUIRE(done);
    CHECK((*done)["finish_reason"] == "length");
    CHECK((*done)["text"] == text);
    CHECK((*done)["usage"]["completion_tokens"] == 3);
    CHECK(s.server->statistics().requests == 0);
}

TEST_CASE("many pipelined requests on one connection each get their own end") {
    served s;
    tcp_client client(s.address());
    std::string lines;
    constexpr int requests = 50;
    for (int i = 0; i < requests; ++i)
        lines += request(std::string("r").append(std::to_string(i)), 1 + i, i % 2 == 0);
    REQUIRE(client.send(lines));
    std::map<std::string, std::string> streamed;
    int ended = 0;
    while (ended < requests) {
        const auto line = client.line();
        REQUIRE(line);
        const auto id = (*line)["id"].get<std::string>();
        if (!line->contains("done")) {
            streamed[id] += (*line)["text"].get<std::string>();
            continue;
        }
        ++ended;
        const int number = std::stoi(id.substr(1));
        CHECK((*line)["usage"]["completion_tokens"] == 1 + number);
        CHECK(streamed[id] == (number % 2 == 0 ? (*line)["text"].get<std::string>() : ""));
    }
}

TEST_CASE("an address that cannot be bound is an error") {
    fake_runtime runtime;
    for (const auto* address : {"", "127.0.0.1", ":0", "127.0.0.1:65536", "127.0.0.1:x", "127.0.0.1:", "::1:0"}) {
        CAPTURE(address);
        const auto started = tcp_server::start(address, {}, line_sessions({}, {}), runtime);
        REQUIRE(!started);
        CHECK(started.error().code == errc::invalid_argument);
    }
    served s;
    const auto taken = tcp_server::start(s.address(), {}, line_sessions({}, {}), runtime);
    REQUIRE(!taken);
    CHECK(taken.error().code == errc::io_error);
}

TEST_CASE("a client that vanishes has its requests cancelled") {
    served s({}, {.paused = true});
    const auto check = [&](auto leave) {
        const auto before = s.runtime.cancelled();
        auto client = std::make_unique<tcp_client>(s.address());
        REQUIRE(client->send(request("a", endless) + request("b", endless)));
        REQUIRE(soon([&] { return s.server->statistics().requests == 2; }));
        leave(client);
        CHECK(soon([&] { return s.runtime.cancelled() == before + 2; }));
        CHECK(soon([&] { return s.server->statistics().connections == 0; }));
        CHECK(s.server->statistics().requests == 0);
        s.runtime.step(); // the ends that nobody waits for
        CHECK(s.runtime.running() == 0);
    };
    check([](std::unique_ptr<tcp_client>& client) { client.reset(); });
    check([](std::unique_ptr<tcp_client>& client) { client->reset(); });
    check([](std::unique_ptr<tcp_client>& client) { client->half_close(); });
}

TEST_CASE("a cancelled request gets its last line, its neighbours go on") {
    served s({}, {.paused = true});
    tcp_client client(s.address());
    REQUIRE(client.send(request("a", endless) + request("b", 3)));
    REQUIRE(soon([&] { return s.runtime.running() == 2; }));
    s.runtime.step();
    REQUIRE(client.send("{\"cancel\":\"a\"}\n"));
    REQUIRE(soon([&] { return s.runtime.cancelled() == 1; }));
    s.runtime.step();
    const auto done = client.last_line_of("a");
    REQUIRE(done);
    CHECK((*done)["finish_reason"] == "cancelled");
    CHECK((*done)["usage"]["completion_tokens"] == 1);
    s.runtime.step();
    const auto other = client.last_line_of("b");
    REQUIRE(other);
    CHECK((*other)["finish_reason"] == "length");
}

TEST_CASE("a refusal of the runtime becomes an error line and the connection lives on") {
    served s;
    tcp_client client(s.address());
    REQUIRE(client.send("{\"id\":\"a\",\"prompt\":\"refuse\"}\nnot json\n{\"stats\":true}\n"));
    std::set<std::string> codes;
    bool statistics = false;
    for (int i = 0; i < 3; ++i) {
        const auto line = client.line();
        REQUIRE(line);
        statistics |= line->contains("stats");
        codes.insert(code_of(line));
    }
    CHECK(codes == std::set<std::string>{"", "invalid_json", "queue_full"});
    CHECK(statistics);
    REQUIRE(client.send("{\"ping\":5}\n"));
    CHECK(client.line() == nlohmann::json{{"pong", 5}});
}

TEST_CASE("half a line and then silence is too slow") {
    tcp_limits limits;
    limits.line_timeout = 50ms;
    served s(limits);
    tcp_client silent(s.address());
    REQUIRE(silent.send("{\"id\":\"a\","));
    CHECK(code_of(silent.line()) == "too_slow");
    CHECK(silent.closed_by_peer());
    CHECK(soon([&] { return s.server->statistics().connections == 0; }));
    // Without a begun line the same silence is no offence.
    tcp_client quiet(s.address());
    std::this_thread::sleep_for(200ms);
    REQUIRE(quiet.send("{\"ping\":1}\n"));
    CHECK(quiet.line() == nlohmann::json{{"pong", 1}});
}

TEST_CASE("an idle connection is closed, one with a running request is not") {
    tcp_limits limits;
    limits.idle_timeout = 50ms;
    served s(limits, {.paused = true});
    tcp_client working(s.address());
    REQUIRE(working.send(request("a", 1)));
    REQUIRE(soon([&] { return s.runtime.running() == 1; }));
    tcp_client idle(s.address());
    CHECK(code_of(idle.line()) == "too_slow");
    CHECK(idle.closed_by_peer());
    s.runtime.step();
    const auto done = working.last_line_of("a");
    REQUIRE(done);
    CHECK((*done)["finish_reason"] == "length");
}

TEST_CASE("a line over the limit is told although more bytes are on their way") {
    tcp_limits limits;
    limits.lines.line_bytes_max = 10'000;
    served s(limits);
    tcp_client client(s.address());
    client.send(std::string(300'000, 'x'));
    CHECK(code_of(client.line()) == "line_too_long");
    CHECK(client.closed_by_peer());
}

TEST_CASE("a connection over the limit is told at once, the others stay") {
    tcp_limits limits;
    limits.connections_max = 2;
    served s(limits);
    tcp_client first(s.address());
    auto second = std::make_unique<tcp_client>(s.address());
    REQUIRE(soon([&] { return s.server->statistics().connections == 2; }));
    tcp_client third(s.address());
    third.send("{\"ping\":1}\n");
    CHECK(code_of(third.line()) == "too_many_connections");
    CHECK(third.closed_by_peer());
    CHECK(s.server->statistics().refused == 1);
    REQUIRE(first.send("{\"ping\":1}\n"));
    CHECK(first.line() == nlohmann::json{{"pong", 1}});
    second.reset();
    REQUIRE(soon([&] { return s.server->statistics().connections == 1; }));
    tcp_client fourth(s.address());
    REQUIRE(fourth.send("{\"ping\":2}\n"));
    CHECK(fourth.line() == nlohmann::json{{"pong", 2}});
}

TEST_CASE("a client that does not read is cut off, the others are not disturbed") {
    tcp_limits limits;
    limits.write_timeout = 100ms;
    served s(limits, {.token_bytes = 2'000});
    tcp_client stalled(s.address(), 4'096);
    REQUIRE(stalled.send(request("slow", endless)));
    tcp_client reader(s.address());
    REQUIRE(reader.send(request("fast", 500, false)));
    const auto done = reader.last_line_of("fast");
    REQUIRE(done);
    CHECK((*done)["usage"]["completion_tokens"] == 500);
    CHECK(soon([&] { return s.server->statistics().closed_slow == 1; }));
    CHECK(soon([&] { return s.runtime.cancelled() == 1; }));
    CHECK(soon([&] { return s.server->statistics().connections == 1; }));
}

TEST_CASE("a client that sends and never reads stops being read and is cut off") {
    tcp_limits limits;
    limits.write_timeout = 100ms;
    served s(limits);
    tcp_client flooder(s.address(), 4'096);
    std::string pings;
    for (int i = 0; i < 1'000; ++i)
        pings += "{\"ping\":1}\n";
    CHECK(soon([&] { return !flooder.send(pings); }));
    CHECK(soon([&] { return s.server->statistics().closed_slow == 1; }));
}

TEST_CASE("a burst of answers to a client that reads is not a slow reader") {
    tcp_limits limits;
    limits.write_queue_bytes_max = 16 << 10;
    served s(limits);
    tcp_client client(s.address());
    std::string bad;
    constexpr int lines = 5'000;
    for (int i = 0; i < lines; ++i)
        bad += "x\n";
    auto sending = std::async(std::launch::async, [&] { return client.send(bad); });
    for (int i = 0; i < lines; ++i)
        REQUIRE(code_of(client.line()) == "invalid_json");
    CHECK(sending.get());
    CHECK(s.server->statistics().closed_slow == 0);
}

TEST_CASE("keys are asked for on the wire") {
    tcp_limits limits;
    limits.line_timeout = 100ms;
    served s(limits, {}, {"secret"});
    tcp_client stranger(s.address());
    REQUIRE(stranger.send(request("a", 1)));
    CHECK(code_of(stranger.line()) == "unauthorized");
    CHECK(stranger.closed_by_peer());
    tcp_client mute(s.address());
    CHECK(code_of(mute.line()) == "too_slow");
    CHECK(mute.closed_by_peer());
    tcp_client friendly(s.address());
    REQUIRE(friendly.send("{\"auth\":\"secret\"}\n" + request("a", 2)));
    const auto done = friendly.last_line_of("a");
    REQUIRE(done);
    CHECK((*done)["finish_reason"] == "length");
    CHECK(s.runtime.submitted() == 1);
}

TEST_CASE("draining lets running requests end, refuses new ones and then closes") {
    tcp_limits limits;
    limits.linger = 20ms;
    served s(limits, {.paused = true});
    tcp_client busy(s.address()), idle(s.address());
    REQUIRE(busy.send(request("a", 2)));
    REQUIRE(soon([&] { return s.runtime.running() == 1 && s.server->statistics().connections == 2; }));
    std::promise<void> drained;
    s.server->drain([&] { drained.set_value(); });
    CHECK(idle.closed_by_peer());
    tcp_client newcomer(s.address());
    REQUIRE(newcomer.send(request("c", 1)));
    CHECK(code_of(newcomer.line()) == "draining");
    CHECK(newcomer.closed_by_peer());
    REQUIRE(busy.send(request("b", 1)));
    CHECK(code_of(busy.last_line_of("b")) == "draining");
    s.runtime.step();
    s.runtime.step();
    const auto done = busy.last_line_of("a");
    REQUIRE(done);
    CHECK((*done)["finish_reason"] == "length");
    CHECK(drained.get_future().wait_for(tcp_client::patience) == std::future_status::ready);
    CHECK(busy.closed_by_peer());
    tcp_client late(s.address());
    CHECK(!late.send("x"));
    CHECK(s.server->statistics().connections == 0);
}

TEST_CASE("draining ends in time: what still runs is cancelled and told so") {
    tcp_limits limits;
    limits.drain_timeout = 20ms;
    limits.linger = 20ms;
    served s(limits, {.paused = true});
    tcp_client client(s.address());
    REQUIRE(client.send(request("a", endless)));
    REQUIRE(soon([&] { return s.runtime.running() == 1; }));
    std::promise<void> drained;
    s.server->drain([&] { drained.set_value(); });
    REQUIRE(soon([&] { return s.runtime.cancelled() == 1; }));
    s.runtime.step();
    const auto done = client.last_line_of("a");
    REQUIRE(done);
    CHECK((*done)["finish_reason"] == "cancelled");
    CHECK(drained.get_future().wait_for(tcp_client::patience) == std::future_status::ready);
}

TEST_CASE("stopping cancels what runs and answers an open drain") {
    served s({}, {.paused = true});
    tcp_client client(s.address());
    REQUIRE(client.send(request("a", endless)));
    REQUIRE(soon([&] { return s.runtime.running() == 1; }));
    std::promise<void> drained;
    s.server->drain([&] { drained.set_value(); });
    s.server->stop();
    CHECK(drained.get_future().wait_for(0s) == std::future_status::ready);
    CHECK(s.runtime.cancelled() == 1);
    CHECK(client.closed_by_peer());
    bool late = false;
    s.server->drain([&] { late = true; });
    CHECK(late);
    s.server->stop();
    s.runtime.step(); // news after the end go nowhere
}

TEST_CASE("running out of descriptors pauses accepting and nothing else") {
    tcp_limits limits;
    limits.accept_pause = 10ms;
    served s(limits);
    tcp_client before(s.address());
    REQUIRE(before.send("{\"ping\":1}\n"));
    REQUIRE(before.line());
    rlimit original{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &original) == 0);
    // Room for the client's own socket, none for the server's end of it.
    const int next_free = ::dup(0);
    ::close(next_free);
    rlimit low = original;
    low.rlim_cur = static_cast<rlim_t>(next_free) + 1;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
    tcp_client starved(s.address());
    REQUIRE(starved.send("{\"ping\":2}\n"));
    REQUIRE(before.send("{\"ping\":3}\n"));
    CHECK(before.line() == nlohmann::json{{"pong", 3}});
    CHECK(s.server->statistics().accepted == 1);
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &original) == 0);
    CHECK(starved.line() == nlohmann::json{{"pong", 2}});
}

TEST_CASE("many clients at once each get exactly their own tokens") {
    served s;
    constexpr int clients = 32, requests = 10;
    std::vector<std::future<int>> all;
    for (int c = 0; c < clients; ++c)
        all.push_back(std::async(std::launch::async, [&, c] {
            int right = 0;
            for (int r = 0; r < requests; ++r) {
                tcp_client client(s.address());
                const int tokens = 1 + (c * requests + r) % 40;
                if (!client.send(request("x", tokens)))
                    continue;
                if ((c + r) % 4 == 0) { // leaves at once
                    ++right;
                    continue;
                }
                const auto done = client.last_line_of("x");
                right += done && (*done)["usage"]["completion_tokens"] == tokens ? 1 : 0;
            }
            return right;
        }));
    for (auto& each : all)
        CHECK(each.get() == requests);
    CHECK(soon([&] { return s.server->statistics().connections == 0; }));
    CHECK(soon([&] { return s.runtime.running() == 0; }));
    CHECK(s.server->statistics().requests == 0);
}
