#include "actors/api_keys.hpp"
#include "actors/early_server.hpp"
#include "config/settings_check.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/load_model.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <future>
#include <unistd.h>

namespace moira {

namespace {

struct serve_options {
    std::string model, tcp, http;
};

/// SIGTERM and SIGINT are blocked in every thread of the process and taken here, so that no handler runs in the middle
/// of anything. Must be made before threads start.
class stop_signals {
public:
    stop_signals() {
        sigemptyset(&wanted_);
        sigaddset(&wanted_, SIGTERM);
        sigaddset(&wanted_, SIGINT);
        pthread_sigmask(SIG_BLOCK, &wanted_, nullptr);
    }

    /// The one that arrived within `patience`, or 0.
    int wait_for(std::chrono::milliseconds patience) const {
        const timespec limit{patience.count() / 1000, (patience.count() % 1000) * 1'000'000};
        return std::max(sigtimedwait(&wanted_, nullptr, &limit), 0);
    }

private:
    sigset_t wanted_{};
};

/// Empty: not wanted.
struct serve_addresses {
    std::string tcp, http;
};

/// What the command line names; without a name there, the settings. The default of server.tcp gives way to HTTP: who asks
/// for one port does not get two.
result<serve_addresses> addresses_of(const serve_options& options, const loaded_settings& loaded) {
    const auto& server = loaded.values.server;
    serve_addresses wanted;
    wanted.http = options.http.empty() ? server.http : options.http;
    const bool tcp_named = loaded.origins.contains("server.tcp");
    wanted.tcp = !options.tcp.empty()                    ? options.tcp
                 : wanted.http.empty() || tcp_named ? server.tcp
                                                    : std::string();
    if (wanted.http.empty() && wanted.tcp.empty())
        return fail(errc::invalid_config, "server.http and server.tcp are both empty; name an address, or use --http or --tcp");
    // An address of the command line is held to the same rules as one of the settings: fault injection on loopback only.
    auto checked = loaded;
    checked.values.server.tcp = wanted.tcp;
    checked.values.server.http = wanted.http;
    if (!options.tcp.empty())
        checked.origins["server.tcp"] = "--tcp";
    if (!options.http.empty())
        checked.origins["server.http"] = "--http";
    if (auto fine = check_settings(checked); !fine)
        return tl::unexpected(fine.error());
    return wanted;
}

/// The servers while the model is loaded; empty: not wanted.
struct early_servers {
    std::shared_ptr<early_server> tcp, http;
};

/// Before the model is loaded: what cannot be served at all fails now, and clients see a server that starts.
result<early_servers> listen(const serve_addresses& wanted, const settings& all) {
    std::vector<std::string> keys;
    if (!all.server.api_key_file.empty()) {
        auto found = load_api_keys(all.server.api_key_file);
        if (!found)
            return tl::unexpected(found.error());
        keys = std::move(*found);
    }
    auto limits = tcp_limits_of(all);
    limits.lines.faults_allowed = all.server.fault_injection;
    early_servers servers;
    const auto start = [&](gateway_protocol protocol, const std::string& address,
                           std::shared_ptr<early_server>& server) -> result<void> {
        if (address.empty())
            return {};
        auto started = early_server::start(protocol, address, limits, keys);
        if (!started)
            return tl::unexpected(started.error());
        server = std::move(*started);
        std::fprintf(stderr, "listening on %s%s; requests are refused until the model is loaded\n",
                     protocol == gateway_protocol::http ? "http://" : "", server->address().c_str());
        return {};
    };
    if (auto tcp = start(gateway_protocol::lines, wanted.tcp, servers.tcp); !tcp)
        return tl::unexpected(tcp.error());
    if (auto http = start(gateway_protocol::http, wanted.http, servers.http); !http)
        return tl::unexpected(http.error());
    return servers;
}

/// Loading itself cannot be interrupted, so a signal ends the process. Nothing is lost: no request was taken, and loading
/// only reads.
[[noreturn]] void end_while_loading(int signal, early_servers servers) {
    servers = {}; // what was answered goes out, then the sockets close
    std::fputs(isatty(STDERR_FILENO) != 0 ? "\r\033[Kstopped while loading\n" : "stopped while loading\n", stderr);
    std::_Exit(signal == SIGINT ? exit_interrupted : exit_done);
}

result<serve_addresses> hand_over(early_servers servers, local_runtime& runtime) {
    serve_addresses bound;
    if (servers.tcp) {
        bound.tcp = servers.tcp->address();
        if (auto taken = runtime.listen(std::move(servers.tcp)); !taken)
            return tl::unexpected(taken.error());
    }
    if (servers.http) {
        bound.http = servers.http->address();
        if (auto taken = runtime.listen(std::move(servers.http)); !taken)
            return tl::unexpected(taken.error());
    }
    return bound;
}

nlohmann::ordered_json or_null(const std::string& address) {
    return address.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(address);
}

void show_first_steps(const std::string& model, const serve_addresses& bound) {
    if (!bound.tcp.empty())
        std::fprintf(stderr, "serving %s on %s; try: echo '{\"id\":\"1\",\"prompt\":\"Once upon a time\",\"max_tokens\":40}' | nc -q 5 %s %s\n",
                     model.c_str(), bound.tcp.c_str(), bound.tcp.substr(0, bound.tcp.rfind(':')).c_str(),
                     bound.tcp.substr(bound.tcp.rfind(':') + 1).c_str());
    if (!bound.http.empty())
        std::fprintf(stderr, "serving %s on http://%s; try: curl http://%s/v1/completions -H 'Content-Type: application/json' -d '{\"prompt\":\"Once upon a time\",\"max_tokens\":40}'\n",
                     model.c_str(), bound.http.c_str(), bound.http.c_str());
}

result<exit_code> run_serve(const serve_options& options, command_context& context) {
    constexpr auto look_interval = std::chrono::milliseconds(200);
    const stop_signals signals;
    const auto& all = context.settings.values;
    const auto wanted = addresses_of(options, context.settings);
    if (!wanted)
        return tl::unexpected(wanted.error());
    auto servers = listen(*wanted, all);
    if (!servers)
        return tl::unexpected(servers.error());
    auto loading = std::async(std::launch::async, [&] { return load_runtime(options.model, context); });
    while (loading.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
        if (const auto signal = signals.wait_for(look_interval / 10); signal != 0)
            end_while_loading(signal, std::move(*servers));
    auto runtime = loading.get();
    if (!runtime)
        return tl::unexpected(runtime.error());
    const auto bound = hand_over(std::move(*servers), **runtime);
    if (!bound)
        return tl::unexpected(bound.error());
    // Line-buffered or not, whoever waits for this line must get it.
    if (auto printed = print_json({{"event", "ready"}, {"http", or_null(bound->http)}, {"tcp", or_null(bound->tcp)}}); !printed)
        return tl::unexpected(printed.error());
    if (!context.json)
        show_first_steps((*runtime)->identity().model, *bound);
    while (signals.wait_for(look_interval) == 0)
        if ((*runtime)->failed())
            return fail(errc::internal, "a part of the runtime has ended; see the log above");
    std::fputs("draining: running requests are finished, new ones refused; a second signal stops at once\n", stderr);
    // The margin covers the last writes; the gateways hold to the timeout themselves.
    const auto patience = std::chrono::seconds(all.server.drain_timeout_s) + std::chrono::seconds(10);
    auto drained = std::async(std::launch::async, [&] { return (*runtime)->drain(patience); });
    while (drained.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
        if (signals.wait_for(look_interval / 4) != 0)
            std::_Exit(exit_interrupted);
    if (!drained.get())
        return fail(errc::deadline_exceeded, "requests were still running after server.drain_timeout_s");
    return exit_done;
}

}  // namespace

void add_serve_command(command_line& line) {
    auto options = std::make_shared<serve_options>();
    CLI::App& command = line.add(line.root(), "serve", "answer clients over TCP and HTTP until SIGTERM",
                                 [options](command_context& context) { return run_serve(*options, context); });
    add_model_option(command, options->model);
    command.add_option("--tcp", options->tcp, "address of the line protocol; port 0 picks a free one; default: server.tcp, unless HTTP is asked for")->type_name("HOST:PORT");
    command.add_option("--http", options->http, "address of the HTTP interface; port 0 picks a free one; default: server.http")->type_name("HOST:PORT");
}

}  // namespace moira
