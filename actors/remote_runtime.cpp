#include "actors/moira/remote.hpp"
#include "actors/runtime_error.hpp"
#include "actors/runtime_guard.hpp"

#include <caf/io/middleman.hpp>

namespace moira {

namespace {

caf::error no_network() {
    return to_caf_error(
        {errc::invalid_config, "the actor system has no middleman; call enable_network(config) before it is built"});
}

} // namespace

caf::actor_system_config& set_heartbeats(caf::actor_system_config& config, const network_options& options) {
    config.set("middleman.heartbeat-interval", caf::timespan(options.heartbeat_interval));
    config.set("middleman.connection-timeout", caf::timespan(options.silence_max));
    return config;
}

caf::actor_system_config& enable_network(caf::actor_system_config& config, const network_options& options) {
    config.load<caf::io::middleman>();
    return set_heartbeats(config, options);
}

caf::expected<std::uint16_t> publish_runtime(caf::actor_system& system, const runtime_actor& runtime,
                                             std::uint16_t port, const std::string& host) {
    if (!system.has_middleman())
        return no_network();
    return system.middleman().publish(runtime, port, host.c_str());
}

caf::expected<runtime_actor> connect_runtime(caf::actor_system& system, const std::string& host, std::uint16_t port) {
    if (!system.has_middleman())
        return no_network();
    auto remote = system.middleman().remote_actor<runtime_actor>(host, port);
    if (!remote)
        return std::move(remote.error());
    return spawn_runtime_guard(system, *remote);
}

} // namespace moira
