#pragma once

#include <moira/runtime.hpp>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <vector>

// What both programs share: a sink that keeps what it hears, and checks that end the program.

inline void check(bool holds, const std::string& what) {
    std::cout << (holds ? "ok      " : "FAILED  ") << what << std::endl;
    if (!holds)
        std::exit(1);
}

/// The host's own message, in its own block: delivered by the same system as MOIRA's.
struct answer {
    moira::text_end last;
    std::string streamed; ///< texts of all deltas, then the rest
    std::uint32_t deltas = 0;
    std::uint32_t unasked = 0; ///< deltas beyond the credit granted
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, answer& x) {
    return f(caf::meta::type_name("answer"), x.last, x.streamed, x.deltas, x.unasked);
}

CAF_BEGIN_TYPE_ID_BLOCK(host, first_custom_type_id)

CAF_ADD_TYPE_ID(host, (answer))

CAF_END_TYPE_ID_BLOCK(host)

/// Collects one request and sends the whole answer to `reader`. Grants a delta for each that came, when `grants`.
inline moira::text_sink_actor spawn_collector(caf::actor_system& system, const moira::runtime_actor& runtime,
                                              const caf::actor& reader, std::uint32_t credit, bool grants) {
    using pointer = moira::text_sink_actor::pointer;
    return system.spawn([=](pointer self) -> moira::text_sink_actor::behavior_type {
        auto state = std::make_shared<std::pair<answer, std::uint32_t>>(answer{}, credit);
        return {
            [=](const moira::text_delta& more) {
                auto& [heard, open] = *state;
                ++heard.deltas;
                heard.streamed += more.text;
                if (open == 0)
                    ++heard.unasked;
                else
                    --open;
                if (grants) {
                    ++open;
                    self->send(runtime, moira::grant_atom{}, more.tag, std::uint32_t{1}, moira::text_sink_actor{self});
                }
            },
            [=](const moira::text_end& last) {
                state->first.last = last;
                state->first.streamed += last.rest.text;
                caf::anon_send(reader, state->first);
                self->quit();
            },
        };
    });
}

inline moira::prompt_request request_for(const std::string& prompt, std::int64_t tokens) {
    moira::prompt_request request;
    request.prompt = prompt;
    request.max_tokens = tokens;
    return request;
}

inline moira::text_sink_actor submit(caf::scoped_actor& self, const moira::runtime_actor& runtime,
                                     const moira::prompt_request& request, bool grants = true) {
    const auto sink = spawn_collector(self->home_system(), runtime, self, request.credit, grants);
    self->send(runtime, moira::submit_atom{}, request, sink);
    return sink;
}

inline answer wait(caf::scoped_actor& self) {
    answer heard;
    heard.last.code = "no answer";
    self->receive([&](const answer& all) { heard = all; }, caf::after(std::chrono::seconds(120)) >> [] {});
    return heard;
}

inline moira::runtime_counters counters(caf::scoped_actor& self, const moira::runtime_actor& runtime) {
    moira::runtime_counters found;
    self->request(runtime, std::chrono::seconds(60), moira::stats_atom{})
        .receive([&](const moira::runtime_counters& all) { found = all; },
                 [&](const caf::error& why) { check(false, "statistics: " + self->system().render(why)); });
    return found;
}

inline double ms_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

inline moira::prompt_request long_request() {
    auto request = request_for("Once upon a time", 1'500);
    request.ignore_eos = true;
    return request;
}

/// A request that runs now. On a busy machine one may have ended before anybody looked; then the next is tried.
inline moira::text_sink_actor start_long_request(caf::scoped_actor& self, const moira::runtime_actor& runtime) {
    constexpr int tries_max = 20;
    for (int tries = 0; tries < tries_max; ++tries) {
        auto sink = submit(self, runtime, long_request());
        for (bool ended = false; !ended;) {
            if (counters(self, runtime).running > 0)
                return sink;
            self->receive([&](const answer&) { ended = true; }, caf::after(std::chrono::milliseconds(1)) >> [] {});
        }
    }
    check(false, "a long request is seen running");
    return {};
}
