// two_processes EXPECTED_HASH: runs itself as a server in another process, uses it, kills it, and stops it.
#include "checks.hpp"

#include <moira/remote.hpp>

#include <csignal>
#include <cstdio>
#include <sys/wait.h>
#include <unistd.h>

namespace {

/// Generous: a test machine may be busy. What was measured is printed.
constexpr double noticed_ms_max = 30'000;

moira::network_options network() {
    moira::network_options options;
    options.heartbeat_interval = std::chrono::milliseconds(200);
    options.silence_max = std::chrono::milliseconds(2'000);
    return options;
}

int serve() {
    caf::actor_system_config config;
    moira::add_message_types(config);
    moira::enable_network(config, network());
    caf::actor_system system{config};
    const auto runtime = moira::spawn_runtime(system, {});
    if (!runtime)
        return 1;
    const auto port = moira::publish_runtime(system, *runtime);
    if (!port)
        return 1;
    std::cout << *port << std::endl;
    caf::scoped_actor self{system};
    self->wait_for(*runtime);
    return 0;
}

/// The server in a process of its own; killed when this goes.
class server_process {
public:
    explicit server_process(const char* program) {
        int ends[2];
        check(pipe(ends) == 0, "pipe");
        child_ = fork();
        if (child_ == 0) {
            dup2(ends[1], STDOUT_FILENO);
            close(ends[0]);
            close(ends[1]);
            execl(program, program, "--serve", static_cast<char*>(nullptr));
            _exit(127);
        }
        close(ends[1]);
        auto* lines = fdopen(ends[0], "r");
        unsigned port = 0;
        check(std::fscanf(lines, "%u", &port) == 1, "the server has said its port");
        std::fclose(lines);
        port_ = static_cast<std::uint16_t>(port);
    }
    server_process(const server_process&) = delete;
    server_process& operator=(const server_process&) = delete;
    ~server_process() {
        kill(child_, SIGKILL);
        waitpid(child_, nullptr, 0);
    }

    void signal(int number) const { kill(child_, number); }
    std::uint16_t port() const { return port_; }

private:
    pid_t child_ = 0;
    std::uint16_t port_ = 0;
};

moira::runtime_actor connect(caf::actor_system& system, const server_process& server) {
    const auto runtime = moira::connect_runtime(system, "127.0.0.1", server.port());
    if (!runtime)
        check(false, "connect_runtime: " + system.render(runtime.error()));
    return *runtime;
}

void check_use(caf::scoped_actor& self, const moira::runtime_actor& runtime, const std::string& hash) {
    submit(self, runtime, request_for("Once upon a time", 40));
    auto heard = wait(self);
    check(heard.last.logits_hash == hash && heard.streamed == heard.last.text,
          "over the network: " + heard.last.logits_hash);
    auto request = request_for("Once upon a time", 60);
    request.credit = 2;
    submit(self, runtime, request, false);
    heard = wait(self);
    check(heard.deltas <= 2 && heard.unasked == 0 && heard.streamed == heard.last.text,
          "credit holds over the network");

    const auto sink = start_long_request(self, runtime);
    caf::anon_send_exit(sink, caf::exit_reason::kill);
    const auto begin = std::chrono::steady_clock::now();
    while (counters(self, runtime).running != 0 && ms_since(begin) < noticed_ms_max)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    check(counters(self, runtime).cancelled == 1, "the death of a sink here cancels there");
}

/// The peer ends by `signal` while a request runs.
void check_loss(caf::scoped_actor& self, const char* program, int signal, const std::string& what) {
    const server_process server(program);
    const auto runtime = connect(self->home_system(), server);
    start_long_request(self, runtime);
    const auto begin = std::chrono::steady_clock::now();
    server.signal(signal);
    const auto heard = wait(self);
    const auto open_ms = ms_since(begin);
    check(heard.last.code == "restarted" && open_ms < noticed_ms_max,
          what + ": the open request failed after " + std::to_string(open_ms) + " ms");
    const auto again = std::chrono::steady_clock::now();
    submit(self, runtime, long_request());
    check(wait(self).last.code == "restarted", what + ": a new one after " + std::to_string(ms_since(again)) + " ms");
    caf::anon_send_exit(runtime, caf::exit_reason::user_shutdown);
    self->wait_for(runtime);
}

void check_all(caf::actor_system& system, const char* program, const std::string& hash) {
    caf::scoped_actor self{system};
    {
        const server_process server(program);
        const auto runtime = connect(system, server);
        check_use(self, runtime, hash);
        caf::anon_send_exit(runtime, caf::exit_reason::user_shutdown);
        self->wait_for(runtime);
        const auto second = connect(system, server);
        check(counters(self, second).finished > 0, "the end of a handle here leaves the runtime there");
        caf::anon_send_exit(second, caf::exit_reason::user_shutdown);
    }
    const auto nobody = moira::connect_runtime(system, "127.0.0.1", 1);
    check(!nobody, "nobody there: " + system.render(nobody.error()));
    check_loss(self, program, SIGKILL, "killed");
    check_loss(self, program, SIGSTOP, "hung");
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2)
        return 2;
    if (argv[1] == std::string("--serve"))
        return serve();
    caf::actor_system_config config;
    moira::add_message_types(config);
    moira::enable_network(config, network());
    config.add_message_types<caf::id_block::host>();
    {
        caf::actor_system system{config};
        check_all(system, argv[0], argv[1]);
    }
    std::cout << "ok      the actor system ends with nothing left in it" << std::endl;
}
