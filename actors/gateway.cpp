#include "actors/gateway.hpp"

#include "actors/caf_edition.hpp"
#include "actors/http_session.hpp"
#include "actors/line_protocol.hpp"
#include "actors/tcp_server.hpp"
#include "actors/text_worker.hpp"

#include <memory>
#include <mutex>
#include <set>
#include <utility>

namespace moira {

namespace {

// The gateway's own messages beside its public ones: the server's thread speaks to the actor through them.
using gateway_self = gateway_actor::extend<
    // A connection asked for statistics under this ticket.
    caf::reacts_to<stats_atom, std::uint64_t>,
    // A connection asked the tokenizer under this ticket.
    caf::reacts_to<text_atom, std::uint64_t, text_question_ptr>,
    // The last connection is gone.
    caf::reacts_to<caf::tick_atom>>;

/// The runtime as the server sees it: every call becomes a message. Holds its own actor weakly.
class actor_port final : public request_port {
public:
    actor_port(intake_actor intake, const gateway_self& self, const gateway_options& options)
        : intake_(std::move(intake)), self_(caf::actor_cast<caf::actor_addr>(self)), experts_(options.expert_statistics),
          inject_fault_(options.inject_fault) {}

    void submit(std::uint64_t tag, generation_input_ptr input) override {
        const auto sink = self();
        if (!sink)
            return;
        const std::lock_guard held(lock_);
        open_.insert(tag);
        caf::anon_send(intake_, submit_atom_v, tag, std::move(input), sink_actor(sink));
    }

    void cancel(std::uint64_t tag) override {
        const auto sink = self();
        if (!sink)
            return;
        const std::lock_guard held(lock_);
        caf::anon_send(intake_, cancel_atom_v, tag, sink_actor(sink));
    }

    void inject_fault(const std::string& part) override {
        if (inject_fault_)
            inject_fault_(part);
    }

    /// The request of this tag has got its last event.
    void finished(std::uint64_t tag) {
        const std::lock_guard held(lock_);
        open_.erase(tag);
    }

    /// Submits to `intake` from now on; gives the requests that the one before took with it.
    std::set<std::uint64_t> use_intake(intake_actor intake) {
        const std::lock_guard held(lock_);
        intake_ = std::move(intake);
        return std::exchange(open_, {});
    }

    void request_statistics(std::uint64_t ticket) override {
        if (const auto target = self())
            caf::anon_send(target, stats_atom_v, ticket);
    }

    void request_text(std::uint64_t ticket, text_question question) override {
        if (const auto target = self())
            caf::anon_send(target, text_atom_v, ticket,
                           text_question_ptr(std::make_shared<const text_question>(std::move(question))));
    }

    void drained() {
        if (const auto target = self())
            caf::anon_send(target, caf::tick_atom_v);
    }

    expert_store_statistics expert_statistics() const override {
        return experts_ ? experts_() : expert_store_statistics{};
    }

private:
    gateway_self self() const { return caf::actor_cast<gateway_self>(self_); }

    std::mutex lock_;               // the server's thread submits, the actor changes the intake
    intake_actor intake_;
    std::set<std::uint64_t> open_;  // submitted, not finished
    caf::actor_addr self_;
    std::function<expert_store_statistics()> experts_;
    std::function<void(const std::string&)> inject_fault_;
};

/// Owns the server. Destroyed with the actor, it stops the server, which cancels what runs.
class gateway_state {
public:
    gateway_state() = default;

    void start(gateway_self::stateful_pointer<gateway_state> self, intake_actor intake, gateway_options options,
               session_factory sessions) {
        self_ = self;
        intake_ = intake;
        options_ = std::move(options);
        options_.limits.lines.faults_allowed = static_cast<bool>(options_.inject_fault);
        sessions_ = std::move(sessions);
        if (options_.rules) {
            texts_ = spawn_text_worker(self->system(), options_.rules);
            self->link_to(texts_);
        }
        port_ = std::make_unique<actor_port>(std::move(intake), gateway_self(self), options_);
    }

    void deliver(const output_batch_ptr& batch) {
        if (!server_ || !batch)
            return;
        for (const auto& event : batch->events)
            if (event.finished)
                port_->finished(event.tag);
        server_->deliver(batch);
    }

    /// What was open is lost; its clients hear so and may ask again.
    void use_intake(const intake_actor& intake) {
        intake_ = intake;
        auto lost = std::make_shared<output_batch>();
        for (const auto tag : port_->use_intake(intake))
            lost->events.push_back(refused(tag, {errc::restarted, "a part of the runtime was lost with this request"}));
        if (server_ && !lost->events.empty())
            server_->deliver(std::move(lost));
    }

    caf::result<std::string> listen(const std::string& address) {
        if (server_)
            return caf::make_error(caf::sec::runtime_error, "already listening on " + server_->address());
        auto server = tcp_server::start(address, options_.limits, sessions_, *port_);
        if (!server)
            return caf::make_error(caf::sec::runtime_error, server.error().message);
        server_ = std::move(*server);
        return server_->address();
    }

    caf::result<std::string> listen(const early_server_ptr& early) {
        if (server_)
            return caf::make_error(caf::sec::runtime_error, "already listening on " + server_->address());
        server_ = early->serve(*port_, options_.identity);
        return server_->address();
    }

    void ask_statistics(std::uint64_t ticket) {
        self_->request(intake_, options_.statistics_timeout, stats_atom_v)
            .then([this, ticket](const runtime_statistics_ptr& statistics) { answer(ticket, statistics); },
                  [this, ticket](const caf::error&) {
                      answer(ticket, fail(errc::internal, "the runtime did not answer in time; ask again"));
                  });
    }

    void ask_text(std::uint64_t ticket, const text_question_ptr& question) {
        const auto answer = [this, ticket](result<text_answer> text) {
            if (server_)
                server_->deliver_text(ticket, std::move(text));
        };
        if (!texts_)
            return answer(fail(errc::unsupported, "this gateway has no tokenizer"));
        self_->request(texts_, caf::infinite, question)
            .then([answer](const text_answer_ptr& text) { answer(*text); },
                  [answer](const caf::error&) { answer(fail(errc::internal, "the tokenizer has failed")); });
    }

    caf::result<bool> drain() {
        if (!server_)
            return true;
        auto promise = self_->make_response_promise<bool>();
        draining_.push_back(promise);
        server_->drain([port = port_.get()] { port->drained(); });
        return promise;
    }

    void drained() { answer_drains(true); }

    void end() {
        if (server_)
            server_->stop();
        answer_drains(caf::make_error(caf::exit_reason::user_shutdown));
    }

private:
    void answer(std::uint64_t ticket, result<std::shared_ptr<const runtime_statistics>> statistics) {
        if (server_)
            server_->deliver_statistics(ticket, std::move(statistics));
    }

    template <class Answer>
    void answer_drains(const Answer& answer) {
        for (auto& promise : std::exchange(draining_, {}))
            promise.deliver(answer);
    }

    gateway_self::stateful_pointer<gateway_state> self_ = nullptr;
    intake_actor intake_;
    gateway_options options_;
    session_factory sessions_;
    text_worker_actor texts_;
    std::unique_ptr<actor_port> port_; // outlives the server
    std::unique_ptr<tcp_server> server_;
    std::vector<caf::typed_response_promise<bool>> draining_;
};

gateway_self::behavior_type gateway_behavior(gateway_self::stateful_pointer<gateway_state> self, intake_actor intake,
                                             gateway_options options, session_factory sessions) {
    auto& state = self->state;
    state.start(self, std::move(intake), std::move(options), std::move(sessions));
    self->set_exit_handler([self](const caf::exit_msg& message) {
        if (!message.reason)
            return; // a linked actor ended well
        self->state.end();
        self->quit(message.reason);
    });
    return {
        [&state](const output_batch_ptr& batch) { state.deliver(batch); },
        [&state](intake_atom, const intake_actor& fresh) { state.use_intake(fresh); },
        [&state](listen_atom, const std::string& address) { return state.listen(address); },
        [&state](listen_atom, const early_server_ptr& early) { return state.listen(early); },
        [&state](drain_atom) { return state.drain(); },
        [&state](stats_atom, std::uint64_t ticket) { state.ask_statistics(ticket); },
        [&state](text_atom, std::uint64_t ticket, const text_question_ptr& question) {
            state.ask_text(ticket, question);
        },
        [&state](caf::tick_atom) { state.drained(); },
    };
}

} // namespace

gateway_actor spawn_tcp_gateway(caf::actor_system& system, const intake_actor& intake, gateway_options options) {
    auto sessions = line_sessions(options.keys, options.identity);
    return spawn_part<gateway_self, gateway_state>(system, gateway_behavior, intake, std::move(options),
                                                   std::move(sessions));
}

gateway_actor spawn_http_gateway(caf::actor_system& system, const intake_actor& intake, gateway_options options) {
    auto sessions = http_sessions(options.keys, options.identity);
    return spawn_part<gateway_self, gateway_state>(system, gateway_behavior, intake, std::move(options),
                                                   std::move(sessions));
}

} // namespace moira
