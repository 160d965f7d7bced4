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

void intake_slot::set(const intake_actor& intake) {
    const std::lock_guard held(lock_);
    intake_ = intake;
}

intake_actor intake_slot::get() const {
    const std::lock_guard held(lock_);
    return intake_;
}

namespace {

class callback_sink_state {
public:
    callback_sink_state() = default;

    void start(const std::shared_ptr<callback_registry>& registry, const std::shared_ptr<intake_slot>& slot) {
        registry_ = registry;
        slot_ = slot;
    }

    void deliver(const output_batch_ptr& batch) { registry_->deliver(*batch); }

    /// The new intake first: whoever is told of the loss may submit again at once.
    void use_intake(const intake_actor& intake) {
        slot_->set(intake);
        registry_->fail_all({errc::restarted, "a part of the runtime was lost with this request"});
    }

private:
    std::shared_ptr<callback_registry> registry_;
    std::shared_ptr<intake_slot> slot_;
};

supervised_sink_actor::behavior_type callback_sink(supervised_sink_actor::stateful_pointer<callback_sink_state> self,
                                                   const std::shared_ptr<callback_registry>& registry,
                                                   const std::shared_ptr<intake_slot>& slot) {
    self->state.start(registry, slot);
    return {
        [self](const output_batch_ptr& batch) { self->state.deliver(batch); },
        [self](intake_atom, const intake_actor& intake) { self->state.use_intake(intake); },
    };
}

}  // namespace

supervised_sink_actor spawn_callback_sink(caf::actor_system& system, const std::shared_ptr<callback_registry>& registry,
                                          const std::shared_ptr<intake_slot>& slot) {
    return spawn_part<supervised_sink_actor, callback_sink_state>(system, callback_sink, registry, slot);
}

}  // namespace moira
