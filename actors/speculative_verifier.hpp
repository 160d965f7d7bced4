#pragma once

#include "actors/interfaces.hpp"
#include "core/speculate/draft_verifier.hpp"

namespace moira {

speculative_verifier_actor spawn_speculative_verifier(caf::actor_system& system, const draft_verifier::options& limits);

}  // namespace moira
