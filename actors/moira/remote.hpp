#pragma once

#include "runtime.hpp"

#include <chrono>
#include <cstdint>
#include <string>

// One process runs the model, others use it through the same handle. CAF's protocol neither authenticates nor encrypts
// and lets every peer end the actors that it can name: for loopback and trusted networks only.

namespace moira {

/// When a peer that says nothing counts as dead. Both ends must use the same values.
struct network_options {
    /// A few bytes per peer and interval.
    std::chrono::milliseconds heartbeat_interval{500};
    /// A hung process is noticed after this time; shorter, a busy machine would look dead.
    std::chrono::milliseconds silence_max{5000};
};

/// Loads CAF's middleman into a host's configuration and turns its heartbeats on. A host that loads the middleman
/// itself calls set_heartbeats alone. Before the actor system is built. Returns `config`.
MOIRA_PUBLIC caf::actor_system_config& enable_network(caf::actor_system_config& config,
                                                      const network_options& options = {});
MOIRA_PUBLIC caf::actor_system_config& set_heartbeats(caf::actor_system_config& config,
                                                      const network_options& options = {});

/// Lets other processes connect to a runtime of this one; gives the port (0: any is chosen). Errors: CAF's own (the
/// port is taken), invalid_config (enable_network was not called).
MOIRA_PUBLIC caf::expected<std::uint16_t> publish_runtime(caf::actor_system& system, const runtime_actor& runtime,
                                                          std::uint16_t port = 0,
                                                          const std::string& host = "127.0.0.1");

/// A handle on the runtime that another process has published; blocks until connected. When the peer dies, everything
/// open fails with `restarted` and everything new at once; connect again then. The handle belongs to a guard in this
/// process: end it with an exit message when it is no longer used, the runtime itself goes on. Errors: CAF's own
/// (nobody there, or no runtime), invalid_config.
MOIRA_PUBLIC caf::expected<runtime_actor> connect_runtime(caf::actor_system& system, const std::string& host,
                                                          std::uint16_t port);

} // namespace moira
