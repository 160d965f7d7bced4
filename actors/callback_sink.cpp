#include "actors/callback_sink.hpp"

#include "actors/caf_edition.hpp"

namespace moira {

void callback_registry::add(std::uint64_t tag, event_function on_event) {
    const std::lock_guard held(lock_);
    functions_.emplace(tag, std::make_shared<event_function>(std::move(on_event)));
}

void callback_registry::deliver(const output_batch& batch) {
    for (const auto& event : batch.events) {
        std::shared_ptr<event_function> function;
        {
            const std::lock_guard held(lock_);
            const auto found = functions_.find(event.tag);
            if (found == functions_.end())
                continue;
            function = found->second;
            if (event.finished)
                functions_.erase(found);
        }
        // Outside the lock: the function may submit.
        if (*function)
            (*function)(event);
    }
}

void callback_registry::fail_all(const error& why) {
    output_batch batch;
    {
        const std::lock_guard held(lock_);
        for (const auto& [tag, function] : functions_)
            batch.events.push_back(refused(tag, why));
    }
    deliver(batch);
}

namespace {

class callback_sink_state {
public:
    callback_sink_state() = default;

    std::shared_ptr<callback_registry> registry;
};

sink_actor::behavior_type callback_sink(sink_actor::stateful_pointer<callback_sink_state> self,
                                        const std::shared_ptr<callback_registry>& registry) {
    self->state.registry = registry;
    return {
        [self](const output_batch_ptr& batch) { self->state.registry->deliver(*batch); },
    };
}

}  // namespace

sink_actor spawn_callback_sink(caf::actor_system& system, const std::shared_ptr<callback_registry>& registry) {
    return spawn_part<sink_actor, callback_sink_state>(system, callback_sink, registry);
}

}  // namespace moira
