#pragma once

#include "actors/interfaces.hpp"
#include "actors/tcp_limits.hpp"

#include <functional>
#include <string>
#include <vector>

namespace moira {

/// What a gateway needs besides the intake.
struct tcp_gateway_options {
    tcp_limits limits;
    std::vector<std::string> keys; ///< empty: everybody may ask
    runtime_identity identity;
    std::function<expert_store_statistics()> expert_statistics; ///< any thread, must not block; empty: all zero
    std::function<void(const std::string&)> inject_fault;  ///< ends a part by name; empty: faults are refused
    std::chrono::seconds statistics_timeout{5};                 ///< then a `stats` line is answered with an error
};

/// Spawns the gateway; it listens when it is told to. Its end, however it comes, closes the connections and cancels
/// what they asked for.
tcp_gateway_actor spawn_tcp_gateway(caf::actor_system& system, const intake_actor& intake, tcp_gateway_options options);

} // namespace moira
