#pragma once

#include "actors/interfaces.hpp"
#include "core/batch/request_intake.hpp"

#include <memory>

namespace moira {

tokenize_worker_actor spawn_tokenize_worker(caf::actor_system& system, const std::shared_ptr<const intake_rules>& rules);

}  // namespace moira
