#include "actors/expert_cache.hpp"

#include "actors/caf_edition.hpp"

namespace moira {

namespace {

class expert_cache_state {
public:
    expert_cache_state() = default;
    expert_cache_state(const expert_cache_state&) = delete;
    expert_cache_state& operator=(const expert_cache_state&) = delete;

    /// Demand goes on without a policy, speculation does not.
    ~expert_cache_state() {
        if (model_)
            model_->experts().set_prefetch({});
    }

    using pointer = expert_cache_actor::stateful_pointer<expert_cache_state>;

    void start(const std::shared_ptr<engine>& model, const prefetch_policy& prefetch) {
        model_ = model;
        model_->experts().set_prefetch(prefetch);
    }

    /// False when the budget is below the minimum; the old one stays.
    bool resize(std::uint64_t budget_bytes) { return model_->experts().resize(budget_bytes).has_value(); }

    expert_statistics_ptr statistics() const {
        return std::make_shared<expert_store_statistics>(model_->expert_statistics());
    }

private:
    std::shared_ptr<engine> model_;
};

expert_cache_actor::behavior_type expert_cache(expert_cache_state::pointer self, const std::shared_ptr<engine>& model,
                                               const prefetch_policy& prefetch) {
    self->state.start(model, prefetch);
    return {
        [self](resize_atom, std::uint64_t budget_bytes) { return self->state.resize(budget_bytes); },
        [self](stats_atom) { return self->state.statistics(); },
    };
}

}  // namespace

expert_cache_actor spawn_expert_cache(caf::actor_system& system, const std::shared_ptr<engine>& model,
                                      const prefetch_policy& prefetch) {
    return spawn_part<expert_cache_actor, expert_cache_state>(system, expert_cache, model, prefetch);
}

}  // namespace moira
