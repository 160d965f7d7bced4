#include "actors/supervisor.hpp"

#include "actors/batcher.hpp"
#include "actors/caf_edition.hpp"
#include "actors/execution_stream.hpp"
#include "actors/expert_cache.hpp"
#include "actors/intake.hpp"
#include "actors/route_predictor.hpp"
#include "actors/tcp_gateway.hpp"

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
               const execution_stream_actor& stream, const route_predictor_actor& predictor) {
        self_ = self;
        options_ = options;
        intake_ = parts.intake;
        self->link_to(parts.intake);
        self->link_to(parts.batcher);
        self->link_to(parts.cache);
        self->link_to(stream);
        if (predictor)
            self->link_to(predictor);
    }

    caf::typed_response_promise<std::string> listen(const std::string& address) {
        auto promise = self_->make_response_promise<std::string>();
        tcp_gateway_options wanted;
        wanted.limits = options_.tcp;
        wanted.keys = options_.api_keys;
        wanted.identity = *options_.identity;
        wanted.expert_statistics = [model = options_.model] { return model->expert_statistics(); };
        auto gateway = spawn_tcp_gateway(self_->system(), intake_, std::move(wanted));
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
    std::vector<tcp_gateway_actor> gateways_;
};

supervisor_actor::behavior_type supervisor(supervisor_state::pointer self, const supervisor_options& options,
                                           const runtime_handles& parts, const execution_stream_actor& stream,
                                           const route_predictor_actor& predictor) {
    self->state.start(self, options, parts, stream, predictor);
    return {
        [self](listen_atom, const std::string& address) { return self->state.listen(address); },
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
    route_listener listener;
    if (const auto& board = options.model->routes())
        listener = {spawn_route_predictor(system, board), board};
    const auto stream = spawn_execution_stream(system, run, options.own_thread, listener);
    runtime_handles parts;
    parts.batcher = spawn_batcher(system, batcher_options(options), stream);
    intake_options intake;
    intake.rules = options.rules;
    intake.open_max = static_cast<std::size_t>(options.batch.queue_max);
    parts.intake = spawn_intake(system, intake, parts.batcher);
    parts.cache = spawn_expert_cache(system, options.model, options.prefetch);
    parts.supervisor = spawn_part<supervisor_actor, supervisor_state>(system, supervisor, options, parts, stream,
                                                                     listener.predictor);
    return parts;
}

}  // namespace moira
