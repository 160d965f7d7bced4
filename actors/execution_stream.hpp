#pragma once

#include "actors/interfaces.hpp"

#include "core/route/route_board.hpp"

#include <functional>
#include <memory>

namespace moira {

/// Runs one step; the engine in serving, a script in tests. Called on the stream's thread, one at a time.
using step_function = std::function<step_result(const step_plan&)>;

/// Who is told that a step left observations; at most one message is on its way. Empty: nobody predicts.
struct route_listener {
    route_predictor_actor predictor;
    std::shared_ptr<route_board> board;
};

/// What the stream tells others than its listener; both may be empty.
struct stream_observers {
    route_listener routes;
    speculative_verifier_actor verifier;
};

/// `own_thread`: a step computes for milliseconds and must not hold up the scheduler's threads. Off in deterministic
/// tests, since an actor with a thread of its own escapes the test scheduler.
execution_stream_actor spawn_execution_stream(caf::actor_system& system, const step_function& run, bool own_thread,
                                             const stream_observers& observers = {});

}  // namespace moira
