#pragma once

#include "actors/interfaces.hpp"
#include "actors/tcp_limits.hpp"

#include <functional>
#include <string>
#include <vector>

namespace moira {

/// What a gateway needs besides the intake, whatever its protocol.
struct gateway_options {
    tcp_limits limits;
    std::vector<std::string> keys; ///< empty: everybody may ask
    runtime_identity identity;
    std::function<expert_store_statistics()> expert_statistics; ///< any thread, must not block; empty: all zero
    std::function<void(const std::string&)> inject_fault;       ///< ends a part by name; empty: faults are refused
    std::chrono::seconds statistics_timeout{5};                 ///< then the question is answered with an error
    std::shared_ptr<const intake_rules> rules;                  ///< for /tokenize and /detokenize; empty: refused
};

/// Spawn a gateway that speaks lines, or HTTP; it listens when it is told to. Its end, however it comes, closes the
/// connections and cancels what they asked for.
gateway_actor spawn_tcp_gateway(caf::actor_system& system, const intake_actor& intake, gateway_options options);
gateway_actor spawn_http_gateway(caf::actor_system& system, const intake_actor& intake, gateway_options options);

} // namespace moira
