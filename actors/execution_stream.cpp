#include "actors/execution_stream.hpp"

#include "actors/caf_edition.hpp"

namespace moira {

namespace {

class execution_stream_state {
public:
    execution_stream_state() = default;

    using pointer = execution_stream_actor::stateful_pointer<execution_stream_state>;

    void start(pointer self, const step_function& run) {
        self_ = self;
        run_ = run;
    }

    void run_step(const step_plan_ptr& plan, const step_listener_actor& listener) {
        self_->send(listener, advance_atom{}, step_result_ptr(std::make_shared<step_result>(run_(*plan))));
    }

private:
    pointer self_ = nullptr;
    step_function run_;
};

execution_stream_actor::behavior_type execution_stream(execution_stream_state::pointer self, const step_function& run) {
    self->state.start(self, run);
    return {
        [self](run_step_atom, const step_plan_ptr& plan, const step_listener_actor& listener) {
            self->state.run_step(plan, listener);
        },
    };
}

}  // namespace

execution_stream_actor spawn_execution_stream(caf::actor_system& system, const step_function& run, bool own_thread) {
    if (own_thread)
        return spawn_part<execution_stream_actor, execution_stream_state, caf::detached>(system, execution_stream, run);
    return spawn_part<execution_stream_actor, execution_stream_state>(system, execution_stream, run);
}

}  // namespace moira
