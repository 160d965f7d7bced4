#pragma once

#include "actors/interfaces.hpp"
#include "core/route/route_board.hpp"

#include <memory>

namespace moira {

route_predictor_actor spawn_route_predictor(caf::actor_system& system, const std::shared_ptr<route_board>& board);

}  // namespace moira
