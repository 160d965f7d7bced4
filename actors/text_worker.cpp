#include "actors/text_worker.hpp"

#include "actors/caf_edition.hpp"

namespace moira {

namespace {

class text_worker_state {
public:
    text_worker_state() = default;

    std::shared_ptr<const intake_rules> rules;
};

text_worker_actor::behavior_type text_worker(text_worker_actor::stateful_pointer<text_worker_state> self,
                                             const std::shared_ptr<const intake_rules>& rules) {
    self->state.rules = rules;
    return {
        [self](const text_question_ptr& question) -> text_answer_ptr {
            return std::make_shared<const result<text_answer>>(answer_text_question(*question, *self->state.rules));
        },
    };
}

} // namespace

text_worker_actor spawn_text_worker(caf::actor_system& system, const std::shared_ptr<const intake_rules>& rules) {
    return spawn_part<text_worker_actor, text_worker_state>(system, text_worker, rules);
}

} // namespace moira
