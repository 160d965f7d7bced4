#include "actors/supervisor.hpp"

#include "actors/batcher.hpp"
#include "actors/caf_edition.hpp"
#include "actors/execution_stream.hpp"
#include "actors/expert_cache.hpp"
#include "actors/gateway.hpp"
#include "actors/intake.hpp"

#include <vector>

namespace moira {

namespace {

class supervisor_state {
public:
    supervisor_state() = default;

    using pointer = supervisor_actor::stateful_pointer<supervisor_state>;

    /// Links tie the parts' lives together: when one ends with an error, all do. An orderly end of the supervisor ends
    /// them too, through the same links.
    void start(pointer self, const supervisor_options& options, const runtime_handles& parts,
               const execution_stream_actor& stream) {
        self_ = self;
        options_ = options;
        intake_ = parts.intake;
        self->link_to(parts.intake);
        self->link_to(parts.batcher);
        self->link_to(parts.cache);
        self->link_to(stream);
    }

    using spawn_gateway = gateway_actor(caf::actor_system&, const intake_actor&, gateway_options);

    caf::typed_response_promise<std::string> listen(const std::string& address, spawn_gateway* spawn) {
        auto promise = self_->make_response_promise<std::string>();
        gateway_options wanted;
        wanted.rules = options_.rules;
        wanted.limits = options_.tcp;
        wanted.keys = options_.api_keys;
        wanted.identity = *options_.identity;
        wanted.expert_statistics = [model = options_.model] { return model->experts().statistics(); };
        auto gateway = spawn(self_->system(), intake_, std::move(wanted));
        self_->link_to(gateway);
        gateways_.push_back(gateway);
        promise.delegate(gateway, listen_atom{}, address);
        return promise;
    }

    /// Gateways first, so that their clients' last answers go out; then intake, which asks the batcher.
    caf::typed_response_promise<bool> drain() {
        auto promise = self_->make_response_promise<bool>();
        drain_next_gateway(0, promise);
        return promise;
    }

    caf::typed_response_promise<runtime_statistics_ptr> statistics() {
        auto promise = self_->make_response_promise<runtime_statistics_ptr>();
        promise.delegate(intake_, stats_atom{});
        return promise;
    }

private:
    void drain_next_gateway(std::size_t index, caf::typed_response_promise<bool> promise) {
        if (index == gateways_.size()) {
            promise.delegate(intake_, drain_atom{});
            return;
        }
        // The gateway bounds its own draining; the margin covers its last writes.
        const auto patience = options_.tcp.drain_timeout + std::chrono::seconds(5);
        self_->request(gateways_[index], patience, drain_atom{})
            .then([this, index, promise](bool) { drain_next_gateway(index + 1, promise); },
                  [this, index, promise](const caf::error&) { drain_next_gateway(index + 1, promise); });
    }

    pointer self_ = nullptr;
    supervisor_options options_;
    intake_actor intake_;
    std::vector<gateway_actor> gateways_;
};

supervisor_actor::behavior_type supervisor(supervisor_state::pointer self, const supervisor_options& options,
                                           const runtime_handles& parts, const execution_stream_actor& stream) {
    self->state.start(self, options, parts, stream);
    return {
        [self](listen_atom, const std::string& address) { return self->state.listen(address, spawn_tcp_gateway); },
        [self](listen_atom, http_atom, const std::string& address) {
            return self->state.listen(address, spawn_http_gateway);
        },
        [self](drain_atom) { return self->state.drain(); },
        [self](stats_atom) { return self->state.statistics(); },
    };
}

batcher_actor_options batcher_options(const supervisor_options& options) {
    batcher_actor_options made;
    made.batch = options.batch;
    made.identity = options.identity;
    made.model = options.model;
    made.token_bytes = [text = options.rules->text](token_id id) {
        return text ? text->token_bytes(id) : std::string_view{};
    };
    return made;
}

}  // namespace

runtime_handles spawn_supervisor(caf::actor_system& system, const supervisor_options& options) {
    const auto run = [model = options.model](const step_plan& plan) { return model->run_step(plan); };
    const auto stream = spawn_execution_stream(system, run, options.own_thread);
    runtime_handles parts;
    parts.batcher = spawn_batcher(system, batcher_options(options), stream);
    intake_options intake;
    intake.rules = options.rules;
    intake.open_max = static_cast<std::size_t>(options.batch.queue_max);
    parts.intake = spawn_intake(system, intake, parts.batcher);
    parts.cache = spawn_expert_cache(system, options.model);
    parts.supervisor = spawn_part<supervisor_actor, supervisor_state>(system, supervisor, options, parts, stream);
    return parts;
}

}  // namespace moira
