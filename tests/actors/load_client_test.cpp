#include "actors/load_client.hpp"
#include "actors/tcp_server.hpp"
#include "tests/actors/fake_runtime.hpp"

#include <atomic>
#include <doctest/doctest.h>

using namespace moira;
using namespace std::chrono_literals;

namespace {

struct served {
    explicit served(fake_runtime::options with = {}, const tcp_limits& limits = {}, std::vector<std::string> keys = {})
        : runtime(with) {
        auto started = tcp_server::start("127.0.0.1:0", limits, line_sessions(std::move(keys), {}), runtime);
        REQUIRE(started);
        server = std::move(*started);
        runtime.serve(*server);
    }
    ~served() {
        runtime.leave();
        server.reset();
    }
    load_options options(std::size_t clients) const {
        load_options all;
        all.protocol.target = *parse_load_target("tcp://" + server->address());
        all.clients = clients;
        return all;
    }

    fake_runtime runtime;
    std::unique_ptr<tcp_server> server;
};

load_plan plan_of(std::size_t requests, std::int64_t tokens, std::string prompt = "x") {
    return {requests, [tokens, prompt](std::size_t index) {
                load_plan::entry entry;
                entry.request.prompt = prompt;
                entry.request.max_tokens = tokens;
                entry.request.seed = index;
                return entry;
            }};
}

} // namespace

TEST_CASE("all requests of a plan are sent, answered and timed") {
    served place;
    std::size_t most = 0;
    const auto outcome =
        run_load(place.options(7), plan_of(100, 5), {},
                 [&](const load_outcome&, std::size_t in_flight) { most = std::max(most, in_flight); });
    REQUIRE(outcome);
    CHECK(outcome->completed == 100);
    CHECK(outcome->failed == 0);
    CHECK(outcome->cancelled == 0);
    CHECK(outcome->tokens == 500);
    CHECK(outcome->ttft_ms.size() == 100);
    CHECK(outcome->itl_ms.size() == 400);
    CHECK(outcome->latency_ms.size() == 100);
    CHECK(outcome->late_ms.empty());
    CHECK(outcome->elapsed_s > 0);
    CHECK(most <= 7);
    CHECK(place.server->statistics().accepted <= 7); // connections are kept
}

TEST_CASE("without streaming the answer comes in one piece and its tokens still count") {
    served place;
    auto plan = plan_of(10, 5);
    plan.make = [make = plan.make](std::size_t index) {
        auto entry = make(index);
        entry.request.stream = false;
        return entry;
    };
    const auto outcome = run_load(place.options(2), plan, {});
    REQUIRE(outcome);
    CHECK(outcome->completed == 10);
    CHECK(outcome->tokens == 50);
    CHECK(outcome->itl_ms.empty());
    CHECK(outcome->ttft_ms == outcome->latency_ms);
}

TEST_CASE("refused requests count as failed under their code, and the others go on") {
    served place;
    auto plan = plan_of(20, 3);
    plan.make = [make = plan.make](std::size_t index) {
        auto entry = make(index);
        if (index % 4 == 0)
            entry.request.prompt = "refuse";
        return entry;
    };
    const auto outcome = run_load(place.options(3), plan, {});
    REQUIRE(outcome);
    CHECK(outcome->completed == 15);
    CHECK(outcome->failed == 5);
    REQUIRE(outcome->failures.size() == 1);
    CHECK(outcome->failures.begin()->first == "queue_full");
    CHECK(outcome->failures.begin()->second == 5);
}

TEST_CASE("requests are not sent before they are due, and waiting for a client counts in their times") {
    fake_runtime::options slow;
    served place(slow);
    load_plan plan = plan_of(6, 1);
    plan.make = [make = plan.make](std::size_t index) {
        auto entry = make(index);
        entry.due = std::chrono::milliseconds(30 * static_cast<long>(index));
        return entry;
    };
    const auto outcome = run_load(place.options(4), plan, {});
    REQUIRE(outcome);
    CHECK(outcome->completed == 6);
    CHECK(outcome->elapsed_s >= 0.150);
    CHECK(outcome->late_ms.size() == 6);

    // One client, all due at once, and a runtime that answers only when asked: the second waits at least as long.
    fake_runtime::options paused;
    paused.paused = true;
    served slow_place(paused);
    plan = plan_of(2, 1);
    plan.make = [make = plan.make](std::size_t index) {
        auto entry = make(index);
        entry.due = 0us;
        return entry;
    };
    const auto start = std::chrono::steady_clock::now();
    const auto late = run_load(slow_place.options(1), plan, {}, [&](const load_outcome&, std::size_t) {
        if (std::chrono::steady_clock::now() - start > 60ms)
            slow_place.runtime.step();
    });
    REQUIRE(late);
    CHECK(late->completed == 2);
    CHECK(late->late_ms[1] >= 50);
    CHECK(late->ttft_ms[1] >= late->late_ms[1]);
}

TEST_CASE("an interrupt ends the run with what was measured, and the server forgets what was open") {
    fake_runtime::options paused;
    paused.paused = true;
    served place(paused);
    int looks = 0;
    const auto outcome = run_load(place.options(3), plan_of(10, 4), [&] { return ++looks > 5; });
    REQUIRE(outcome);
    CHECK(outcome->interrupted);
    CHECK(outcome->completed == 0);
    CHECK(outcome->cancelled == 3);
    CHECK(outcome->not_sent == 7);
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    while (place.server->statistics().connections != 0 && std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(1ms);
    CHECK(place.server->statistics().connections == 0);
}

TEST_CASE("a silent server ends in a timeout, a dead one in refused connections") {
    fake_runtime::options paused;
    paused.paused = true;
    served place(paused);
    auto options = place.options(2);
    options.silence_timeout = 50ms;
    auto outcome = run_load(options, plan_of(3, 1), {});
    REQUIRE(outcome);
    CHECK(outcome->failed == 3);
    CHECK(outcome->failures.at("timeout") == 3);

    options = place.options(2);
    place.server->stop();
    outcome = run_load(options, plan_of(3, 1), {});
    REQUIRE(outcome);
    CHECK(outcome->failures.at("connection_refused") == 3);
    const auto facts = ask_load_target(options, {});
    REQUIRE_FALSE(facts);
    CHECK(facts.error().code == errc::io_error);
    CHECK_FALSE(ask_load_statistics(options, {}));
}

TEST_CASE("a server's counters are asked for over a connection of their own") {
    served place;
    const auto told = ask_load_statistics(place.options(1), {});
    REQUIRE(told);
    CHECK(told->experts.hits == 0); // a runtime that only pretends
    CHECK(place.server->statistics().accepted == 1);
}

TEST_CASE("a key is shown first, and a wrong one is told apart") {
    served place({}, {}, {"right"});
    auto options = place.options(2);
    options.protocol.key = "right";
    const auto outcome = run_load(options, plan_of(4, 2), {});
    REQUIRE(outcome);
    CHECK(outcome->completed == 4);
    options.protocol.key = "wrong";
    const auto facts = ask_load_target(options, {});
    REQUIRE_FALSE(facts);
    CHECK(facts.error().code == errc::unauthorized);
}

TEST_CASE("nothing to send and unknown hosts are errors") {
    served place;
    auto outcome = run_load(place.options(1), plan_of(0, 1), {});
    REQUIRE_FALSE(outcome);
    CHECK(outcome.error().code == errc::invalid_argument);
    auto options = place.options(1);
    options.protocol.target.host = "no.such.host.invalid";
    outcome = run_load(options, plan_of(1, 1), {});
    REQUIRE_FALSE(outcome);
    CHECK(outcome.error().code == errc::invalid_argument);
}
