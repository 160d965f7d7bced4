// in_process EXPECTED_HASH EXPECTED_TEXT: several runtimes in this process, and what a sink may rely on.
#include "checks.hpp"

namespace {

moira::runtime_actor spawn(caf::actor_system& system, std::vector<std::string> settings) {
    moira::runtime_options options;
    options.settings = std::move(settings);
    options.settings.push_back("compute.threads=1");
    const auto runtime = moira::spawn_runtime(system, options);
    if (!runtime)
        check(false, "spawn_runtime: " + system.render(runtime.error()));
    return *runtime;
}

void check_errors(caf::actor_system& system) {
    moira::runtime_options options;
    options.settings_toml = "[experts]\nram_bugdet = \"1GiB\"\n";
    const auto misspelt = moira::spawn_runtime(system, options);
    check(!misspelt && moira::error_code(misspelt.error()) == "invalid_config",
          "a misspelt setting: " + system.render(misspelt.error()));
    options = {};
    options.model_folder = "/nowhere";
    const auto absent = moira::spawn_runtime(system, options);
    check(!absent && moira::error_code(absent.error()) == "not_found",
          "a model that is not there: " + system.render(absent.error()));
}

void check_same_as_program(caf::scoped_actor& self, const moira::runtime_actor& runtime, const std::string& hash,
                           const std::string& text) {
    submit(self, runtime, request_for("Once upon a time", 40));
    const auto heard = wait(self);
    const auto& last = heard.last;
    check(last.logits_hash == hash, "logits_hash as of `moira run`: " + last.logits_hash);
    check(last.text == text && heard.streamed == text, "text as of `moira run`, whole and streamed");
    check(last.finish_reason == "length" && last.token_ids.size() == 40 && last.completion_tokens == 40, "40 tokens");
    check(!last.numerics_id.empty() && last.lossy.empty() && !last.plugins.empty() && last.experts.slots > 0 &&
              last.speculation.mode == "off",
          "what the last message says: " + last.numerics_id);
}

void check_credit(caf::scoped_actor& self, const moira::runtime_actor& runtime) {
    for (const std::uint32_t credit : {0U, 1U, 5U}) {
        auto request = request_for("Once upon a time", 60);
        request.credit = credit;
        submit(self, runtime, request, false);
        const auto heard = wait(self);
        check(heard.deltas <= credit && heard.unasked == 0 && heard.streamed == heard.last.text,
              "credit " + std::to_string(credit) + ": " + std::to_string(heard.deltas) +
                  " deltas, the rest at the end");
    }
    auto request = request_for("Once upon a time", 60);
    request.credit = 1;
    submit(self, runtime, request);
    const auto heard = wait(self);
    check(heard.unasked == 0 && heard.deltas > 1,
          "credit granted one by one: " + std::to_string(heard.deltas) + " deltas of 60 tokens");
}

void check_ends(caf::scoped_actor& self, const moira::runtime_actor& runtime) {
    auto request = long_request();
    auto sink = submit(self, runtime, request);
    self->send(runtime, moira::cancel_atom{}, request.tag, sink);
    check(wait(self).last.finish_reason == "cancelled", "a cancelled request gets its end");

    request.timeout_ms = 1;
    submit(self, runtime, request);
    check(wait(self).last.code == "deadline_exceeded", "a deadline");

    auto wrong = request_for("x", 1);
    wrong.ids = std::vector<std::int32_t>{1};
    submit(self, runtime, wrong);
    check(wait(self).last.code == "invalid_argument", "prompt and ids together are refused");

    const auto cancelled = counters(self, runtime).cancelled;
    sink = start_long_request(self, runtime);
    caf::anon_send_exit(sink, caf::exit_reason::kill);
    const auto begin = std::chrono::steady_clock::now();
    while (counters(self, runtime).running != 0 && ms_since(begin) < 60'000)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    check(counters(self, runtime).cancelled == cancelled + 1, "the death of a sink cancels what it had submitted");
}

void check_two(caf::scoped_actor& self, const moira::runtime_actor& whole, const moira::runtime_actor& quarter) {
    for (const auto& runtime : {whole, quarter})
        submit(self, runtime, request_for("The cat sat", 80));
    const auto first = wait(self), second = wait(self);
    check(first.last.logits_hash == second.last.logits_hash && first.last.experts.slots != second.last.experts.slots,
          "two runtimes with other settings side by side: " + std::to_string(first.last.experts.slots) + " and " +
              std::to_string(second.last.experts.slots) + " slots, one logits_hash");
}

void check_listen(caf::scoped_actor& self, const moira::runtime_actor& runtime) {
    std::string bound;
    self->request(runtime, std::chrono::seconds(60), moira::listen_atom{}, std::string("http"),
                  std::string("127.0.0.1:0"))
        .receive([&](const std::string& address) { bound = address; },
                 [&](const caf::error& why) { bound = self->system().render(why); });
    check(bound.rfind("127.0.0.1:", 0) == 0, "a gateway beside it: " + bound);
}

void check_drain(caf::scoped_actor& self, const moira::runtime_actor& runtime) {
    start_long_request(self, runtime);
    bool drained = false;
    self->request(runtime, std::chrono::seconds(120), moira::drain_atom{})
        .receive([&](bool done) { drained = done; }, [](const caf::error&) {});
    check(drained && counters(self, runtime).running == 0, "drain answers when all is still");
    check(wait(self).last.completion_tokens > 0, "and what ran has ended by itself");
    submit(self, runtime, request_for("more", 4));
    check(wait(self).last.code == "draining", "nothing new is taken then");
}

void check_end_of_runtime(caf::scoped_actor& self, const moira::runtime_actor& runtime) {
    start_long_request(self, runtime);
    caf::anon_send_exit(runtime, caf::exit_reason::user_shutdown);
    check(wait(self).last.code == "draining", "the end of a runtime fails what is open, with a code");
    self->wait_for(runtime);
}

void check_all(caf::actor_system& system, const std::string& hash, const std::string& text) {
    check_errors(system);
    const auto whole = spawn(system, {});
    const auto quarter = spawn(system, {"experts.ram_budget=25%"});
    caf::scoped_actor self{system};
    check_same_as_program(self, whole, hash, text);
    check_credit(self, whole);
    check_ends(self, whole);
    check_two(self, whole, quarter);
    check_listen(self, whole);
    check_drain(self, whole);
    check_end_of_runtime(self, quarter);
    caf::anon_send_exit(whole, caf::exit_reason::user_shutdown);
    self->wait_for(whole);
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3)
        return 2;
    caf::actor_system_config config;
    moira::add_message_types(config);
    config.add_message_types<caf::id_block::host>();
    {
        caf::actor_system system{config};
        check_all(system, argv[1], argv[2]);
    }
    std::cout << "ok      the actor system ends with nothing left in it" << std::endl;
}
