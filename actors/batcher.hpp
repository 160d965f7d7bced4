#pragma once

#include "actors/interfaces.hpp"
#include "actors/restart_policy.hpp"
#include "core/batch/batcher.hpp"
#include "core/execute/engine.hpp"

#include <chrono>
#include <memory>

namespace moira {

struct batcher_actor_options {
    batch_options batch;
    token_bytes_function token_bytes;
    std::shared_ptr<const runtime_identity> identity;
    std::shared_ptr<engine> model;  ///< for statistics of its expert store only
    std::shared_ptr<const restart_policy> restarts;  ///< for statistics; may be null
    std::chrono::seconds step_timeout{300};          ///< a step that computes longer hangs
    speculative_verifier_actor verifier;             ///< none: drafts are judged in the batcher
    /// A verdict takes microseconds; one that takes this long is not waited for any more, and neither are later ones
    /// until the verifier has caught up: a verifier that hangs costs this time once.
    std::chrono::milliseconds verdict_wait_max{100};
};

batcher_actor spawn_batcher(caf::actor_system& system, const batcher_actor_options& options,
                            const execution_stream_actor& stream);

}  // namespace moira
