#include "actors/execution_stream.hpp"

#include "actors/caf_edition.hpp"

namespace moira {

namespace {

class execution_stream_state {
public:
    execution_stream_state() = default;

    using pointer = execution_stream_actor::stateful_pointer<execution_stream_state>;

    void start(pointer self, const step_function& run, const route_listener& listener) {
        self_ = self;
        run_ = run;
        listener_ = listener;
    }

    void run_step(const step_plan_ptr& plan, const batcher_actor& batcher) {
        self_->send(batcher, advance_atom{}, step_result_ptr(std::make_shared<step_result>(run_(*plan))));
        // After the answer: the next step is planned while the predictor learns from this one.
        if (listener_.board && listener_.board->announce())
            self_->send(listener_.predictor, observe_atom{});
    }

private:
    pointer self_ = nullptr;
    step_function run_;
    route_listener listener_;
};

execution_stream_actor::behavior_type execution_stream(execution_stream_state::pointer self, const step_function& run,
                                                       const route_listener& listener) {
    self->state.start(self, run, listener);
    return {
        [self](run_step_atom, const step_plan_ptr& plan, const batcher_actor& batcher) {
            self->state.run_step(plan, batcher);
        },
    };
}

}  // namespace

execution_stream_actor spawn_execution_stream(caf::actor_system& system, const step_function& run, bool own_thread,
                                             const route_listener& listener) {
    if (own_thread)
        return spawn_part<execution_stream_actor, execution_stream_state, caf::detached>(system, execution_stream, run,
                                                                                         listener);
    return spawn_part<execution_stream_actor, execution_stream_state>(system, execution_stream, run, listener);
}

}  // namespace moira
