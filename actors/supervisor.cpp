#include "actors/supervisor.hpp"

#include "actors/batcher.hpp"
#include "actors/caf_edition.hpp"
#include "actors/execution_stream.hpp"
#include "actors/expert_cache.hpp"
#include "actors/gateway.hpp"
#include "actors/intake.hpp"
#include "actors/restart_policy.hpp"
#include "actors/route_predictor.hpp"
#include "actors/speculative_verifier.hpp"

#include <algorithm>
#include <vector>

namespace moira {

namespace {

/// The two kinds of gateways differ in how they are spawned and in their names.
struct gateway_kind {
    const char* name;
    gateway_actor (*spawn)(caf::actor_system&, const intake_actor&, gateway_options);
};
constexpr gateway_kind tcp_kind{"tcp_gateway", spawn_tcp_gateway};
constexpr gateway_kind http_kind{"http_gateway", spawn_http_gateway};

class supervisor_state {
public:
    supervisor_state() = default;

    using pointer = supervisor_actor::stateful_pointer<supervisor_state>;

    void start(pointer self, const supervisor_options& options) {
        self_ = self;
        options_ = options;
        self->set_down_handler([this](const caf::down_msg& gone) { part_ended(gone); });
        self->set_exit_handler([this](const caf::exit_msg& message) { end_all(message.reason); });
        start_predictor();
        start_verifier();
        start_stream();
        start_front();
        start_cache();
        watch_later();
    }

    // ---- orders ----

    /// `where`: an address, or a server that has one.
    template <class Where>
    caf::typed_response_promise<std::string> listen(const gateway_kind& kind, const Where& where) {
        auto promise = self_->make_response_promise<std::string>();
        auto gateway = start_gateway(kind);
        self_->request(gateway, caf::infinite, listen_atom{}, where)
            .then(
                [this, promise, gateway, &kind](const std::string& bound) mutable {
                    gateways_.push_back({gateway, &kind, bound});
                    promise.deliver(bound);
                },
                [promise, gateway](caf::error& why) mutable {
                    end_now(gateway, caf::exit_reason::user_shutdown);
                    promise.deliver(std::move(why));
                });
        return promise;
    }

    intake_actor add_sink(const supervised_sink_actor& sink) {
        sinks_.push_back(sink);
        return intake_;
    }

    /// Gateways first, so that their clients' last answers go out; then intake, which asks the batcher.
    caf::typed_response_promise<bool> drain() {
        auto promise = self_->make_response_promise<bool>();
        if (gateways_.empty()) {
            promise.delegate(intake_, drain_atom{});
            return promise;
        }
        // All at once: none takes new requests while another one's end. Each bounds its own draining; the margin covers
        // its last writes.
        const auto patience = options_.tcp.drain_timeout + std::chrono::seconds(5);
        const auto left = std::make_shared<std::size_t>(gateways_.size());
        const auto one_ended = [this, left, promise] {
            if (--*left == 0)
                caf::typed_response_promise<bool>(promise).delegate(intake_, drain_atom{});
        };
        for (const auto& gateway : gateways_)
            self_->request(gateway.actor, patience, drain_atom{})
                .then([one_ended](bool) { one_ended(); }, [one_ended](const caf::error&) { one_ended(); });
        return promise;
    }

    caf::typed_response_promise<bool> resize(std::uint64_t budget_bytes) {
        auto promise = self_->make_response_promise<bool>();
        promise.delegate(cache_, resize_atom{}, budget_bytes);
        return promise;
    }

    caf::typed_response_promise<runtime_statistics_ptr> statistics() {
        auto promise = self_->make_response_promise<runtime_statistics_ptr>();
        promise.delegate(intake_, stats_atom{});
        return promise;
    }

    void preempt(std::int32_t count) { self_->send(batcher_, preempt_atom{}, count); }

    void watch() {
        self_->send(batcher_, watch_atom{});
        watch_later();
    }

    /// Ends a part as a crash would.
    bool inject(const std::string& part) {
        if (part == "tokenize_worker")
            self_->send(intake_, fault_atom{});
        else if (part == "intake")
            end_now(intake_, caf::exit_reason::kill);
        else if (part == "batcher")
            end_now(batcher_, caf::exit_reason::kill);
        else if (part == "execution_stream")
            end_now(stream_, caf::exit_reason::kill);
        else if (part == "expert_cache")
            end_now(cache_, caf::exit_reason::kill);
        else if (part == "route_predictor" && predictor_)
            end_now(predictor_, caf::exit_reason::kill);
        else if (part == "speculative_verifier" && verifier_)
            end_now(verifier_, caf::exit_reason::kill);
        else if (part == "supervisor")
            end_now(supervisor_actor{self_}, caf::exit_reason::unhandled_exception);  // kill would spare the parts
        else
            return inject_gateway(part);
        return true;
    }

private:
    bool inject_gateway(const std::string& part) {
        const auto found = std::find_if(gateways_.begin(), gateways_.end(),
                                        [&](const gateway_part& each) { return part == each.kind->name; });
        if (found == gateways_.end())
            return false;
        end_now(found->actor, caf::exit_reason::kill);
        return true;
    }

    struct gateway_part {
        gateway_actor actor;
        const gateway_kind* kind;
        std::string address;
    };

    // ---- starting parts ----

    /// Only where the engine predicts.
    void start_predictor() {
        if (const auto& board = options_.model->routes()) {
            predictor_ = spawn_route_predictor(self_->system(), board);
            self_->monitor(predictor_);
        }
    }

    /// Only where anything is drafted.
    void start_verifier() {
        const auto& wanted = options_.batch.speculation;
        if (wanted.source == draft_source::none || wanted.draft_max < 1)
            return;
        draft_verifier::options limits;
        limits.texts_max = static_cast<std::size_t>(options_.batch.sequences_max);
        limits.tokens_max = static_cast<std::size_t>(options_.batch.context_max);
        limits.proposal_max = static_cast<std::size_t>(wanted.draft_max) + draft_verifier::late_tokens;
        verifier_ = spawn_speculative_verifier(self_->system(), limits);
        self_->monitor(verifier_);
    }

    void start_stream() {
        const auto run = [model = options_.model](const step_plan& plan) { return model->run_step(plan); };
        stream_ = spawn_execution_stream(self_->system(), run, options_.own_thread, {{predictor_, options_.model->routes()}, verifier_});
        self_->monitor(stream_);
    }

    /// Batcher and intake: neither can go on with the other's successor, since each knows requests of the other.
    void start_front() {
        batcher_actor_options batcher;
        batcher.batch = options_.batch;
        batcher.identity = options_.identity;
        batcher.model = options_.model;
        batcher.restarts = restarts_;
        batcher.verifier = verifier_;
        batcher.step_timeout = options_.step_timeout;
        batcher.token_bytes = [text = options_.rules->text](token_id id) {
            return text ? text->token_bytes(id) : std::string_view{};
        };
        batcher_ = spawn_batcher(self_->system(), batcher, stream_);
        intake_options intake;
        intake.rules = options_.rules;
        intake.open_max = static_cast<std::size_t>(options_.batch.queue_max);
        intake_ = spawn_intake(self_->system(), intake, batcher_);
        self_->monitor(batcher_);
        self_->monitor(intake_);
    }

    void start_cache() {
        cache_ = spawn_expert_cache(self_->system(), options_.model, options_.prefetch);
        self_->monitor(cache_);
    }

    gateway_actor start_gateway(const gateway_kind& kind) {
        gateway_options wanted;
        wanted.rules = options_.rules;
        wanted.limits = options_.tcp;
        wanted.keys = options_.api_keys;
        wanted.identity = *options_.identity;
        wanted.expert_statistics = [model = options_.model] { return model->expert_statistics(); };
        if (options_.fault_injection)
            wanted.inject_fault = [address = caf::actor_cast<caf::actor_addr>(supervisor_actor{self_})](const std::string& part) {
                if (const auto supervisor = caf::actor_cast<supervisor_actor>(address))
                    caf::anon_send(supervisor, fault_atom{}, part);
            };
        auto gateway = kind.spawn(self_->system(), intake_, std::move(wanted));
        self_->monitor(gateway);
        return gateway;
    }

    // ---- losing parts ----

    void part_ended(const caf::down_msg& gone) {
        const auto is = [&](const auto& part) { return part && part.address() == gone.source; };
        if (is(stream_))
            restart("execution_stream", gone.reason, [this] { restart_stream(); });
        else if (is(intake_))
            restart("intake", gone.reason, [this] { restart_front(); });
        else if (is(batcher_))
            restart("batcher", gone.reason, [this] { restart_front(); });
        else if (is(predictor_))
            restart("route_predictor", gone.reason, [this] { restart_predictor(); });
        else if (is(verifier_))
            restart("speculative_verifier", gone.reason, [this] { restart_verifier(); });
        else if (is(cache_))
            restart("expert_cache", gone.reason, [this] { start_cache(); });
        else if (const auto gateway = std::find_if(gateways_.begin(), gateways_.end(),
                                                   [&](const gateway_part& each) { return is(each.actor); });
                 gateway != gateways_.end())
            restart(gateway->kind->name, gone.reason, [this, gateway] { restart_gateway(*gateway); });
    }

    template <class Start>
    void restart(const std::string& part, const caf::error& reason, const Start& start) {
        const auto why = part + " has ended: " + self_->system().render(reason);
        if (!restarts_->allow(part, std::chrono::steady_clock::now())) {
            say(log_level::error, why + "; it was started again too often, the runtime ends");
            end_all(reason);
            return;
        }
        say(log_level::warning, why + "; starting it again");
        start();
    }

    void restart_stream() {
        start_stream();
        self_->send(batcher_, stream_atom{}, stream_);
    }

    void restart_predictor() {
        start_predictor();
        self_->send(stream_, observe_atom{}, predictor_);
    }

    void restart_verifier() {
        start_verifier();
        self_->send(stream_, verifier_atom{}, verifier_);
        self_->send(batcher_, verifier_atom{}, verifier_);
    }

    void restart_front() {
        self_->demonitor(batcher_.address());
        self_->demonitor(intake_.address());
        end_now(batcher_, caf::exit_reason::kill);
        end_now(intake_, caf::exit_reason::kill);
        start_front();
        for (const auto& sink : sinks_)
            self_->send(sink, intake_atom{}, intake_);
        for (const auto& gateway : gateways_)
            self_->send(gateway.actor, intake_atom{}, intake_);
    }

    /// On the same address: clients find it where it was.
    void restart_gateway(gateway_part& part) {
        part.actor = start_gateway(*part.kind);
        self_->request(part.actor, caf::infinite, listen_atom{}, part.address)
            .then([](const std::string&) {},
                  [this, actor = part.actor](const caf::error&) { end_now(actor, caf::exit_reason::kill); });
    }

    void end_all(const caf::error& reason) {
        self_->set_down_handler([](const caf::down_msg&) {});
        for (const auto& gateway : gateways_)
            end_now(gateway.actor, caf::exit_reason::user_shutdown);
        end_now(intake_, caf::exit_reason::user_shutdown);
        end_now(batcher_, caf::exit_reason::user_shutdown);
        end_now(cache_, caf::exit_reason::user_shutdown);
        if (predictor_)
            end_now(predictor_, caf::exit_reason::user_shutdown);
        if (verifier_)
            end_now(verifier_, caf::exit_reason::user_shutdown);
        end_now(stream_, caf::exit_reason::user_shutdown);
        self_->quit(reason);
    }

    // ---- the rest ----

    void watch_later() {
        constexpr auto interval = std::chrono::seconds(1);  // a hang is told of with this precision
        self_->delayed_send(self_, interval, watch_atom{});
    }

    void say(log_level level, const std::string& sentence) const {
        if (options_.log)
            options_.log(level, sentence);
    }

    pointer self_ = nullptr;
    supervisor_options options_;
    std::shared_ptr<restart_policy> restarts_ = std::make_shared<restart_policy>();
    execution_stream_actor stream_;
    batcher_actor batcher_;
    intake_actor intake_;
    expert_cache_actor cache_;
    route_predictor_actor predictor_;
    speculative_verifier_actor verifier_;
    std::vector<gateway_part> gateways_;
    std::vector<supervised_sink_actor> sinks_;
};

supervisor_actor::behavior_type supervisor(supervisor_state::pointer self, const supervisor_options& options) {
    self->state.start(self, options);
    return {
        [self](fault_atom, const std::string& part) { return self->state.inject(part); },
        [self](watch_atom) { self->state.watch(); },
        [self](intake_atom, const supervised_sink_actor& sink) { return self->state.add_sink(sink); },
        [self](preempt_atom, std::int32_t count) { self->state.preempt(count); },
        [self](resize_atom, std::uint64_t budget_bytes) { return self->state.resize(budget_bytes); },
        [self](listen_atom, const std::string& address) { return self->state.listen(tcp_kind, address); },
        [self](listen_atom, http_atom, const std::string& address) { return self->state.listen(http_kind, address); },
        [self](listen_atom, const early_server_ptr& early) {
            return self->state.listen(early->protocol() == gateway_protocol::http ? http_kind : tcp_kind, early);
        },
        [self](drain_atom) { return self->state.drain(); },
        [self](stats_atom) { return self->state.statistics(); },
    };
}

}  // namespace

supervisor_actor spawn_supervisor(caf::actor_system& system, const supervisor_options& options) {
    return spawn_part<supervisor_actor, supervisor_state>(system, supervisor, options);
}

}  // namespace moira
