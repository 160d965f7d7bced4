#pragma once

#include "actors/moira/runtime.hpp"

namespace moira {

/// Stands before a runtime in another process. CAF reports a dead peer at once but leaves what was asked of it
/// unanswered: the guard knows what is open and fails it. The remote runtime sees one sink, the guard.
runtime_actor spawn_runtime_guard(caf::actor_system& system, const runtime_actor& remote);

} // namespace moira
