#pragma once

#include "actors/interfaces.hpp"
#include "actors/moira/runtime.hpp"
#include "core/execute/engine.hpp"

namespace moira {

/// Stands between a host's sinks and the runtime: translates, keeps what a sink may be sent, cancels what a lost sink
/// has submitted, and fails what is open when the runtime ends. Owns the runtime: both end together.
struct embedding_session_options {
    supervisor_actor supervisor;
    std::shared_ptr<const runtime_identity> identity;
    std::shared_ptr<engine> model; ///< for expert statistics
};
runtime_actor spawn_embedding_session(caf::actor_system& system, const embedding_session_options& options);

class local_runtime;

/// The actors of a local_runtime, for tests that use and disturb one runtime both ways.
struct local_runtime_actors {
    static caf::actor_system& system(local_runtime& runtime);

    /// Ends with the runtime; ended alone, it ends the runtime.
    static runtime_actor spawn_session(local_runtime& runtime);
};

} // namespace moira
