#include "actors/expert_cache.hpp"

#include "actors/caf_edition.hpp"

namespace moira {

namespace {

class expert_cache_state {
public:
    expert_cache_state() = default;

    using pointer = expert_cache_actor::stateful_pointer<expert_cache_state>;

    void start(const std::shared_ptr<engine>& model) { model_ = model; }

    /// False when the budget is below the minimum; the old one stays.
    bool resize(std::uint64_t budget_bytes) { return model_->experts().resize(budget_bytes).has_value(); }

    expert_statistics_ptr statistics() const {
        return std::make_shared<expert_store_statistics>(model_->experts().statistics());
    }

private:
    std::shared_ptr<engine> model_;
};

expert_cache_actor::behavior_type expert_cache(expert_cache_state::pointer self, const std::shared_ptr<engine>& model) {
    self->state.start(model);
    return {
        [self](resize_atom, std::uint64_t budget_bytes) { return self->state.resize(budget_bytes); },
        [self](stats_atom) { return self->state.statistics(); },
    };
}

}  // namespace

expert_cache_actor spawn_expert_cache(caf::actor_system& system, const std::shared_ptr<engine>& model) {
    return spawn_part<expert_cache_actor, expert_cache_state>(system, expert_cache, model);
}

}  // namespace moira
