#include "actors/statistics_clerk.hpp"

#include "actors/caf_edition.hpp"

namespace moira {

namespace {

statistics_clerk_actor::behavior_type statistics_clerk(statistics_clerk_actor::pointer self,
                                                       const std::shared_ptr<engine>& model) {
    return {[self, model](stats_atom, const runtime_statistics_ptr& counters) {
        auto all = std::make_shared<runtime_statistics>(*counters);
        all->experts.add_regret(model->experts().regret());
        self->quit();
        return runtime_statistics_ptr(std::move(all));
    }};
}

} // namespace

statistics_clerk_actor spawn_statistics_clerk(caf::actor_system& system, const std::shared_ptr<engine>& model) {
    return system.spawn(statistics_clerk, model);
}

} // namespace moira
