#pragma once

#include "actors/interfaces.hpp"
#include "actors/tcp_limits.hpp"
#include "core/base/log.hpp"
#include "core/batch/batcher.hpp"
#include "core/batch/request_intake.hpp"
#include "core/execute/engine.hpp"

#include <memory>
#include <string>
#include <vector>

namespace moira {

/// What the actors are built from.
struct supervisor_options {
    std::shared_ptr<engine> model;
    std::shared_ptr<const intake_rules> rules;
    std::shared_ptr<const runtime_identity> identity;
    batch_options batch;
    tcp_limits tcp;
    std::vector<std::string> api_keys;
    prefetch_policy prefetch;
    bool own_thread = true;  ///< of the execution stream
    log_function log;
};

/// Handles of the parts that callers talk to.
struct runtime_handles {
    supervisor_actor supervisor;
    intake_actor intake;
    batcher_actor batcher;
    expert_cache_actor cache;
};

/// Spawns the parts and the supervisor that watches them. When a part ends by itself, the supervisor ends the others
/// and itself with the same reason, so that nobody waits for an answer that cannot come.
runtime_handles spawn_supervisor(caf::actor_system& system, const supervisor_options& options);

}  // namespace moira
