#pragma once

#include "actors/interfaces.hpp"
#include "core/execute/engine.hpp"

#include <memory>

namespace moira {

/// `prefetch`: what becomes of hints while the actor lives; when it ends, hints end.
expert_cache_actor spawn_expert_cache(caf::actor_system& system, const std::shared_ptr<engine>& model,
                                      const prefetch_policy& prefetch);

}  // namespace moira
