#pragma once

#include "actors/interfaces.hpp"
#include "actors/tcp_limits.hpp"
#include "core/base/log.hpp"
#include "core/batch/batcher.hpp"
#include "core/batch/request_intake.hpp"
#include "core/execute/engine.hpp"

#include <chrono>
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
    prefetch_policy prefetch;                ///< what becomes of hints
    std::chrono::seconds step_timeout{300};  ///< a step that computes longer hangs
    bool own_thread = true;                  ///< of the execution stream
    bool fault_injection = false;            ///< clients of gateways may end parts
    log_function log;
};

/// Spawns the parts, watches them, and starts lost ones again within restart_policy's bound:
///   expert_cache      nothing but hints and statistics was in it;
///   speculative_verifier  drafts are judged by the batcher meanwhile, running texts are followed again;
///   execution_stream  running sequences are recomputed, clients see a pause;
///   intake, batcher   go together: what is open fails with `restarted`, sinks submit to the new intake;
///   a gateway         listens again on the same address; its connections are gone.
/// Beyond the bound, or when it is ended itself, the supervisor ends all parts with its reason.
supervisor_actor spawn_supervisor(caf::actor_system& system, const supervisor_options& options);

}  // namespace moira
