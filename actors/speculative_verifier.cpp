#include "actors/speculative_verifier.hpp"

#include "actors/caf_edition.hpp"
#include "core/batch/step_drafts.hpp"

#include <optional>

namespace moira {

namespace {

class speculative_verifier_state {
public:
    speculative_verifier_state() = default;

    using pointer = speculative_verifier_actor::stateful_pointer<speculative_verifier_state>;

    void start(pointer self, const draft_verifier::options& limits) {
        self_ = self;
        machine_.emplace(limits);
    }

    void use_listener(const verdict_listener_actor& listener) {
        listener_ = listener;
        machine_->forget_all();
    }

    void follow(const std::vector<follow_order>& orders) {
        for (const auto& each : orders)
            machine_->follow(each);
    }

    void judge(const step_plan& plan, const step_result& outcome) {
        auto verdict = machine_->judge(plan.number, drafts_of(plan, outcome));
        // Most steps of most texts repeat nothing, and nobody waits for the verdict on no draft.
        if (listener_ && verdict.news)
            self_->send(listener_, verdict_atom{}, std::make_shared<const step_verdict>(std::move(verdict)));
    }

private:
    pointer self_ = nullptr;
    verdict_listener_actor listener_;
    std::optional<draft_verifier> machine_;
};

speculative_verifier_actor::behavior_type speculative_verifier(speculative_verifier_state::pointer self,
                                                               const draft_verifier::options& limits) {
    self->state.start(self, limits);
    return {
        [self](verdict_atom, const verdict_listener_actor& listener) { self->state.use_listener(listener); },
        [self](follow_atom, const follow_orders_ptr& orders) { self->state.follow(*orders); },
        [self](judge_atom, const step_plan_ptr& plan, const step_result_ptr& outcome) {
            self->state.judge(*plan, *outcome);
        },
    };
}

}  // namespace

speculative_verifier_actor spawn_speculative_verifier(caf::actor_system& system, const draft_verifier::options& limits) {
    return spawn_part<speculative_verifier_actor, speculative_verifier_state>(system, speculative_verifier, limits);
}

}  // namespace moira
