#include <moira/runtime.hpp>

#include <iostream>

int main() {
    caf::actor_system_config config;
    moira::add_message_types(config);
    caf::actor_system system{config};
    const auto runtime = moira::spawn_runtime(system, {});
    if (!runtime) {
        std::cerr << system.render(runtime.error()) << '\n';
        return 1;
    }
    const auto sink = system.spawn(
        [runtime = *runtime](moira::text_sink_actor::pointer self) -> moira::text_sink_actor::behavior_type {
            return {
                [=](const moira::text_delta& more) {
                    std::cout << more.text << std::flush;
                    self->send(runtime, moira::grant_atom{}, more.tag, std::uint32_t{1}, moira::text_sink_actor{self});
                },
                [=](const moira::text_end& last) {
                    std::cout << last.rest.text << "\n" << last.finish_reason << ' ' << last.logits_hash << '\n';
                    caf::anon_send_exit(runtime, caf::exit_reason::user_shutdown);
                    self->quit();
                },
            };
        });
    moira::prompt_request request;
    request.prompt = std::string("Once upon a time");
    request.max_tokens = 40;
    caf::anon_send(*runtime, moira::submit_atom{}, request, sink);
}
