#pragma once

#include "actors/interfaces.hpp"
#include "core/execute/engine.hpp"

#include <memory>

namespace moira {

expert_cache_actor spawn_expert_cache(caf::actor_system& system, const std::shared_ptr<engine>& model);

}  // namespace moira
