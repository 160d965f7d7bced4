#pragma once

#include "actors/interfaces.hpp"

#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace moira {

/// Who wants to hear of which tag. Shared between the sink actor and the threads that submit.
class callback_registry {
public:
    using event_function = std::function<void(const output_event&)>;

    void add(std::uint64_t tag, event_function on_event);

    /// Calls the functions of the batch's tags; forgets a tag with its last event.
    void deliver(const output_batch& batch);

    /// Ends every open tag with `why`.
    void fail_all(const error& why);

private:
    std::mutex lock_;
    std::unordered_map<std::uint64_t, std::shared_ptr<event_function>> functions_;
};

/// The intake to submit to now; changes when it was lost. Any thread.
class intake_slot {
public:
    void set(const intake_actor& intake);
    intake_actor get() const;

private:
    mutable std::mutex lock_;
    intake_actor intake_;
};

supervised_sink_actor spawn_callback_sink(caf::actor_system& system, const std::shared_ptr<callback_registry>& registry,
                                          const std::shared_ptr<intake_slot>& slot);

}  // namespace moira
