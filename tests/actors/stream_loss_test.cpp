#include "tests/actors/actor_world.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("a stream lost with a step in flight costs that step and no request") {
    actor_world world;
    world.submit(1, world.sink, 4);
    world.submit(2, world.sink, 3);
    world.settle();
    world.answer_step();
    REQUIRE_FALSE(world.steps->plans.empty());
    world.lose_stream();
    world.run_to_end();
    for (const std::uint64_t tag : {1, 2}) {
        const auto ended = world.record->finished(tag);
        REQUIRE(ended);
        CHECK(ended->reason == finish_reason::length);
        CHECK(world.record->tokens(tag) == (tag == 1 ? 4 : 3));
        CHECK(ended->preemptions == 1);
    }
}

TEST_CASE("a stream lost between requests is not noticed") {
    actor_world world;
    world.lose_stream();
    world.submit(1, world.sink);
    world.settle();
    world.run_to_end();
    REQUIRE(world.record->finished(1));
    CHECK(world.record->finished(1)->preemptions == 0);
}

TEST_CASE("a step that hangs fails its requests and refuses new ones until it returns") {
    actor_world::options wanted;
    wanted.step_timeout = std::chrono::seconds(0);
    actor_world world(wanted);
    world.submit(1, world.sink);
    world.settle();
    caf::anon_send(world.batcher, watch_atom{});
    world.settle();
    REQUIRE(world.record->finished(1));
    REQUIRE(world.record->finished(1)->failure);
    CHECK(world.record->finished(1)->failure->code == errc::device_error);
    world.submit(2, world.sink);
    world.settle();
    REQUIRE(world.record->finished(2));
    CHECK(world.record->finished(2)->failure->code == errc::device_error);

    world.answer_step();
    world.submit(3, world.sink);
    world.settle();
    world.run_to_end();
    REQUIRE(world.record->finished(3));
    CHECK(world.record->finished(3)->reason == finish_reason::length);
}

TEST_CASE("a step within its time is left alone") {
    actor_world world;
    world.submit(1, world.sink);
    world.settle();
    caf::anon_send(world.batcher, watch_atom{});
    world.settle();
    CHECK_FALSE(world.record->finished(1));
    world.run_to_end();
    CHECK(world.record->finished(1)->reason == finish_reason::length);
}
