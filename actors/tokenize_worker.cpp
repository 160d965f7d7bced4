#include "actors/tokenize_worker.hpp"

#include "actors/caf_edition.hpp"

namespace moira {

namespace {

class tokenize_worker_state {
public:
    tokenize_worker_state() = default;

    using pointer = tokenize_worker_actor::stateful_pointer<tokenize_worker_state>;

    void start(pointer self, const std::shared_ptr<const intake_rules>& rules) {
        self_ = self;
        rules_ = rules;
    }

    void prepare(const admitted_request_ptr& request, const intake_actor& intake) {
        request->request = prepare_request(*request->input, request->id, *rules_, std::chrono::steady_clock::now());
        request->input.reset();
        self_->send(intake, ready_atom{}, request);
    }

private:
    pointer self_ = nullptr;
    std::shared_ptr<const intake_rules> rules_;
};

tokenize_worker_actor::behavior_type tokenize_worker(tokenize_worker_state::pointer self,
                                                     const std::shared_ptr<const intake_rules>& rules) {
    self->state.start(self, rules);
    return {
        [self](submit_atom, const admitted_request_ptr& request, const intake_actor& intake) {
            self->state.prepare(request, intake);
        },
    };
}

}  // namespace

tokenize_worker_actor spawn_tokenize_worker(caf::actor_system& system, const std::shared_ptr<const intake_rules>& rules) {
    return spawn_part<tokenize_worker_actor, tokenize_worker_state>(system, tokenize_worker, rules);
}

}  // namespace moira
