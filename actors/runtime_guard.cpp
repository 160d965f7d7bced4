#include "actors/runtime_guard.hpp"

#include "actors/caf_edition.hpp"
#include "actors/delivery_desk.hpp"
#include "actors/runtime_error.hpp"

#include <functional>

namespace moira {

namespace {

// Towards its clients a runtime, towards the remote runtime a sink.
using guard_self = runtime_actor::extend<caf::reacts_to<text_delta>, caf::reacts_to<text_end>>;

class guard_state {
public:
    using pointer = guard_self::stateful_pointer<guard_state>;

    guard_state() = default;
    guard_state(const guard_state&) = delete;
    guard_state& operator=(const guard_state&) = delete;
    ~guard_state() { fail_all({errc::draining, "the host has ended its connection to the runtime"}); }

    void start(pointer self, const runtime_actor& remote) {
        self_ = self;
        remote_ = remote;
        desk_.start(self);
        self->set_default_handler(caf::drop);
        self->monitor(remote);
        self->set_down_handler([this](const caf::down_msg& gone) { ended(gone); });
    }

    void submit(prompt_request request, const text_sink_actor& sink) {
        if (!sink)
            return;
        if (lost_) {
            caf::anon_send(sink, failed_end(request.tag, peer_gone()));
            return;
        }
        const auto number = desk_.open(request, sink);
        if (!number)
            return;
        request.tag = *number;
        self_->send(remote_, submit_atom{}, std::move(request), own_sink());
    }

    void grant(std::uint64_t tag, std::uint32_t count, const text_sink_actor& sink) {
        const auto number = desk_.number_of(tag, sink);
        if (!number || lost_)
            return;
        desk_.grant(*number, count);
        self_->send(remote_, grant_atom{}, *number, count, own_sink());
    }

    void cancel(std::uint64_t tag, const text_sink_actor& sink) {
        if (const auto number = desk_.number_of(tag, sink); number && !lost_)
            self_->send(remote_, cancel_atom{}, *number, own_sink());
    }

    void add(const text_delta& more) { desk_.add(more.tag, more.token_ids, more.text); }
    void close(const text_end& last) { desk_.close(last.tag, last); }

    /// Passes a question on; answers it itself when the peer dies.
    template <class Answer, class... Question>
    caf::typed_response_promise<Answer> ask(const Question&... question) {
        auto promise = self_->template make_response_promise<Answer>();
        if (lost_) {
            promise.deliver(to_caf_error(peer_gone()));
            return promise;
        }
        if (questions_.size() >= embedded_requests_max) {
            promise.deliver(
                to_caf_error({errc::queue_full, "too many questions are open; wait for one to be answered"}));
            return promise;
        }
        const auto number = ++last_question_;
        questions_.emplace(number, [promise](const error& why) mutable { promise.deliver(to_caf_error(why)); });
        // The answer of a drain takes as long as the longest request; the peer's death ends the wait.
        self_->request(remote_, caf::infinite, question...)
            .then(
                [this, number, promise](const Answer& answer) mutable {
                    if (questions_.erase(number) > 0)
                        promise.deliver(answer);
                },
                [this, number, promise](caf::error& why) mutable {
                    if (questions_.erase(number) > 0)
                        promise.deliver(std::move(why));
                });
        return promise;
    }

private:
    text_sink_actor own_sink() { return text_sink_actor{guard_self{self_}}; }

    void ended(const caf::down_msg& gone) {
        if (gone.source == remote_.address()) {
            lost_ = true;
            fail_all(peer_gone());
            return;
        }
        for (const auto number : desk_.lost(gone.source))
            if (!lost_)
                self_->send(remote_, cancel_atom{}, number, own_sink());
    }

    void fail_all(const error& why) {
        desk_.fail_all(why);
        for (auto& [number, answer] : std::exchange(questions_, {}))
            answer(why);
    }

    static error peer_gone() { return {errc::restarted, "the process that ran the runtime is gone; connect again"}; }

    pointer self_ = nullptr;
    runtime_actor remote_;
    bool lost_ = false;
    delivery_desk desk_;
    std::map<std::uint64_t, std::function<void(const error&)>> questions_;
    std::uint64_t last_question_ = 0;
};

guard_self::behavior_type runtime_guard(guard_state::pointer self, const runtime_actor& remote) {
    auto& state = self->state;
    state.start(self, remote);
    return {
        [&state](submit_atom, const prompt_request& request, const text_sink_actor& sink) {
            state.submit(request, sink);
        },
        [&state](grant_atom, std::uint64_t tag, std::uint32_t count, const text_sink_actor& sink) {
            state.grant(tag, count, sink);
        },
        [&state](cancel_atom, std::uint64_t tag, const text_sink_actor& sink) { state.cancel(tag, sink); },
        [&state](drain_atom) { return state.ask<bool>(drain_atom{}); },
        [&state](stats_atom) { return state.ask<runtime_counters>(stats_atom{}); },
        [&state](listen_atom, const std::string& protocol, const std::string& address) {
            return state.ask<std::string>(listen_atom{}, protocol, address);
        },
        [&state](const text_delta& more) { state.add(more); },
        [&state](const text_end& last) { state.close(last); },
    };
}

} // namespace

runtime_actor spawn_runtime_guard(caf::actor_system& system, const runtime_actor& remote) {
    return spawn_part<guard_self, guard_state>(system, runtime_guard, remote);
}

} // namespace moira
