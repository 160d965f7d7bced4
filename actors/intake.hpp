#pragma once

#include "actors/interfaces.hpp"
#include "core/batch/request_intake.hpp"

#include <cstddef>
#include <memory>

namespace moira {

struct intake_options {
    std::shared_ptr<const intake_rules> rules;
    std::size_t open_max = 256;  ///< requests that wait for their tokens; beyond: queue_full
};

intake_actor spawn_intake(caf::actor_system& system, const intake_options& options, const batcher_actor& batcher);

}  // namespace moira
