#include "actors/route_predictor.hpp"

#include "actors/execution_stream.hpp"
#include "tests/actors/actor_world.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

route_observation right_observation() {
    route_observation seen;
    seen.top_k = 1;
    seen.mark(route_source::early);
    seen.chosen[0] = seen.predicted[0][0] = 3;
    return seen;
}

step_listener_actor spawn_deaf_listener(caf::actor_system& system) {
    return system.spawn([](step_listener_actor::pointer) -> step_listener_actor::behavior_type {
        return {
            [](advance_atom, const step_result_ptr&) {},
        };
    });
}

} // namespace

TEST_CASE(
    "steps leave observations, and the predictor turns them into probabilities with one message at most on its way") {
    actor_world world;
    const auto board = std::make_shared<route_board>(2, 1, 64);
    auto predictor = spawn_route_predictor(world.system(), board);
    auto batcher = spawn_deaf_listener(world.system());
    world.settle();
    const auto run = [&](const step_plan& plan) {
        for (int row = 0; row < 10; ++row)
            board->ring().push(right_observation());
        step_result outcome;
        outcome.number = plan.number;
        return outcome;
    };
    auto stream = spawn_execution_stream(world.system(), run, false, {{predictor, board}, {}});
    CHECK(board->probability(route_source::early, 0, 0) == 0.5F);
    for (int step = 0; step < 5; ++step)
        caf::anon_send(stream, run_step_atom{}, std::make_shared<const step_plan>(), batcher);
    world.settle();
    CHECK(board->report().of(route_source::early).rows == 50);
    CHECK(board->probability(route_source::early, 0, 0) > 0.9F);
    CHECK(board->probability(route_source::early, 1, 0) == 0.5F);

    // A predictor that is gone costs knowledge and no step; its successor goes on.
    end_now(predictor, caf::exit_reason::kill);
    world.settle();
    caf::anon_send(stream, run_step_atom{}, std::make_shared<const step_plan>(), batcher);
    world.settle();
    CHECK_FALSE(board->announce());
    predictor = spawn_route_predictor(world.system(), board);
    world.settle();
    CHECK(board->report().of(route_source::early).rows == 10);
    CHECK(board->announce());
    end_now(predictor, caf::exit_reason::kill);
    end_now(stream, caf::exit_reason::kill);
    end_now(batcher, caf::exit_reason::kill);
    world.settle();
}
