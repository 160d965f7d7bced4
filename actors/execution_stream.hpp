#pragma once

#include "actors/interfaces.hpp"

#include <functional>
#include <memory>

namespace moira {

/// Runs one step; the engine in serving, a script in tests. Called on the stream's thread, one at a time.
using step_function = std::function<step_result(const step_plan&)>;

/// `own_thread`: a step computes for milliseconds and must not hold up the scheduler's threads. Off in deterministic
/// tests, since an actor with a thread of its own escapes the test scheduler.
execution_stream_actor spawn_execution_stream(caf::actor_system& system, const step_function& run, bool own_thread);

}  // namespace moira
