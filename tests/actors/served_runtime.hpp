#pragma once

#include "actors/tcp_server.hpp"
#include "tests/actors/fake_runtime.hpp"
#include "tests/actors/tcp_client.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

namespace moira {

/// A server of sessions of some protocol over the fake runtime, in the right order of birth and death.
struct served_runtime {
    served_runtime(const tcp_limits& limits, session_factory sessions, fake_runtime::options with) : runtime(with) {
        auto started = tcp_server::start("127.0.0.1:0", limits, std::move(sessions), runtime);
        REQUIRE(started);
        server = std::move(*started);
        runtime.serve(*server);
    }
    ~served_runtime() {
        runtime.leave();
        server.reset();
    }
    const std::string& address() const { return server->address(); }

    fake_runtime runtime;
    std::unique_ptr<tcp_server> server;
};

/// Waits for what other threads are about to do; the bound only ends a failing test.
template <class Condition>
bool soon(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + tcp_client::patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline)
            return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

/// Tokens that no test waits for.
inline constexpr int endless = 1'000'000'000;

} // namespace moira
