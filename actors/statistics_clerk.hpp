#pragma once

#include "actors/interfaces.hpp"
#include "core/execute/engine.hpp"

#include <memory>

namespace moira {

/// Adds to counters what takes milliseconds to reckon, so that neither the batcher nor a step waits for it. Ends with
/// its answer.
using statistics_clerk_actor =
    caf::typed_actor<caf::replies_to<stats_atom, runtime_statistics_ptr>::with<runtime_statistics_ptr>>;

statistics_clerk_actor spawn_statistics_clerk(caf::actor_system& system, const std::shared_ptr<engine>& model);

} // namespace moira
