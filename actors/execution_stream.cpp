#include "actors/execution_stream.hpp"

#include "actors/caf_edition.hpp"

namespace moira {

namespace {

class execution_stream_state {
public:
    execution_stream_state() = default;

    using pointer = execution_stream_actor::stateful_pointer<execution_stream_state>;

    void start(pointer self, const step_function& run, const stream_observers& observers) {
        self_ = self;
        run_ = run;
        routes_ = observers.routes;
        verifier_ = observers.verifier;
    }

    void run_step(const step_plan_ptr& plan, const step_listener_actor& listener) {
        const step_result_ptr outcome = std::make_shared<step_result>(run_(*plan));
        // To both: neither's loss may cost the other the result. Where there are no drafts nobody waits for the verdict,
        // and the batcher shows it the step once the next one runs: waking a thread here would hold that one up by 10 us.
        if (verifier_ && plan->holds_drafts)
            self_->send(verifier_, judge_atom{}, plan, outcome);
        self_->send(listener, advance_atom{}, outcome);
        // After the answer: the next step is planned while the predictor learns from this one.
        if (routes_.board && routes_.board->announce())
            self_->send(routes_.predictor, observe_atom{});
    }

    void use_predictor(const route_predictor_actor& predictor) { routes_.predictor = predictor; }

    void use_verifier(const speculative_verifier_actor& verifier) { verifier_ = verifier; }

private:
    pointer self_ = nullptr;
    step_function run_;
    route_listener routes_;
    speculative_verifier_actor verifier_;
};

execution_stream_actor::behavior_type execution_stream(execution_stream_state::pointer self, const step_function& run,
                                                       const stream_observers& observers) {
    self->state.start(self, run, observers);
    return {
        [self](run_step_atom, const step_plan_ptr& plan, const step_listener_actor& listener) {
            self->state.run_step(plan, listener);
        },
        [self](observe_atom, const route_predictor_actor& predictor) { self->state.use_predictor(predictor); },
        [self](verifier_atom, const speculative_verifier_actor& verifier) { self->state.use_verifier(verifier); },
    };
}

}  // namespace

execution_stream_actor spawn_execution_stream(caf::actor_system& system, const step_function& run, bool own_thread,
                                             const stream_observers& observers) {
    if (own_thread)
        return spawn_part<execution_stream_actor, execution_stream_state, caf::detached>(system, execution_stream, run,
                                                                                         observers);
    return spawn_part<execution_stream_actor, execution_stream_state>(system, execution_stream, run, observers);
}

}  // namespace moira
