#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/load_model.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <future>

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

    /// True when one arrived within `patience`.
    bool wait_for(std::chrono::milliseconds patience) const {
        const timespec limit{patience.count() / 1000, (patience.count() % 1000) * 1'000'000};
        return sigtimedwait(&wanted_, nullptr, &limit) > 0;
    }

private:
    sigset_t wanted_{};
};

result<exit_code> run_serve(const serve_options& options, command_context& context) {
    constexpr auto look_interval = std::chrono::milliseconds(200);
    if (!options.http.empty())
        return fail(errc::unsupported, "--http is not in this version; use --tcp");
    const stop_signals signals;
    const auto& all = context.settings.values;
    auto runtime = load_runtime(options.model, context);
    if (!runtime)
        return tl::unexpected(runtime.error());
    const auto address = (*runtime)->listen_tcp(options.tcp.empty() ? all.server.tcp : options.tcp);
    if (!address)
        return tl::unexpected(address.error());
    // Line-buffered or not, whoever waits for this line must get it.
    if (auto printed = print_json({{"event", "ready"}, {"http", nullptr}, {"tcp", *address}}); !printed)
        return tl::unexpected(printed.error());
    if (!context.json)
        std::fprintf(stderr, "serving %s on %s; try: echo '{\"id\":\"1\",\"prompt\":\"Once upon a time\",\"max_tokens\":40}' | nc -q 5 %s %s\n",
                     (*runtime)->identity().model.c_str(), address->c_str(),
                     address->substr(0, address->rfind(':')).c_str(), address->substr(address->rfind(':') + 1).c_str());
    while (!signals.wait_for(look_interval))
        if ((*runtime)->failed())
            return fail(errc::internal, "a part of the runtime has ended; see the log above");
    std::fputs("draining: running requests are finished, new ones refused; a second signal stops at once\n", stderr);
    // The margin covers the last writes; the gateways hold to the timeout themselves.
    const auto patience = std::chrono::seconds(all.server.drain_timeout_s) + std::chrono::seconds(10);
    auto drained = std::async(std::launch::async, [&] { return (*runtime)->drain(patience); });
    while (drained.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
        if (signals.wait_for(look_interval / 4))
            std::_Exit(exit_interrupted);
    if (!drained.get())
        return fail(errc::deadline_exceeded, "requests were still running after server.drain_timeout_s");
    return exit_done;
}

}  // namespace

void add_serve_command(command_line& line) {
    auto options = std::make_shared<serve_options>();
    CLI::App& command = line.add(line.root(), "serve", "answer clients over TCP until SIGTERM",
                                 [options](command_context& context) { return run_serve(*options, context); });
    add_model_option(command, options->model);
    command.add_option("--tcp", options->tcp, "address of the line protocol; port 0 picks a free one; default: server.tcp")->type_name("HOST:PORT");
    command.add_option("--http", options->http, "address of the HTTP interface (not in this version)")->type_name("HOST:PORT");
}

}  // namespace moira
