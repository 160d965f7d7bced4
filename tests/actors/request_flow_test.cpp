// Intake and batcher together, on the deterministic scheduler.
#include "tests/actors/actor_world.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

errc code_of(const std::optional<generation_result>& ended) {
    REQUIRE(ended);
    CHECK(ended->reason == finish_reason::error);
    REQUIRE(ended->failure);
    return ended->failure->code;
}

} // namespace

TEST_CASE("a request flows from intake to its last event") {
    actor_world world;
    world.submit(1, world.sink, 3);
    world.settle();
    CHECK(world.steps->plans.size() == 1);
    CHECK(world.steps->plans.front()->tokens == std::vector<token_id>{5, 6, 8});
    world.run_to_end();
    CHECK(world.record->tokens(1) == 3);
    const auto ended = world.record->finished(1);
    REQUIRE(ended);
    CHECK(ended->reason == finish_reason::length);
    CHECK(ended->text == "xxx");
    CHECK(ended->token_ids == std::vector<token_id>{7, 7, 7});
    CHECK(world.steps->handed_out == 3);
}

TEST_CASE("a sink gets exactly one message per step, whatever number of its requests moved") {
    actor_world world;
    const auto other = std::make_shared<sink_record>();
    auto other_sink = world.spawn_sink(other);
    for (const std::uint64_t tag : {1, 2, 3})
        world.submit(tag, world.sink, 2);
    world.submit(1, other_sink, 2);
    world.settle();
    world.answer_step(); // the request that came first had the step alone
    world.record->batches.clear();
    world.answer_step();
    REQUIRE(world.record->batches.size() == 1);
    CHECK(world.record->batches[0]->events.size() == 3);
    REQUIRE(other->batches.size() == 1);
    CHECK(other->batches[0]->events.size() == 1);
    world.run_to_end();
    for (const std::uint64_t tag : {2, 3})
        CHECK(world.record->finished(tag));
    CHECK(other->finished(1));
    world.end_sink(other_sink);
}

TEST_CASE("a request that is cancelled while it is tokenised never reaches the batcher") {
    actor_world world;
    world.submit(1, world.sink);
    world.cancel(1, world.sink);
    // Intake has both messages before the worker's answer.
    world.settle();
    const auto ended = world.record->finished(1);
    REQUIRE(ended);
    CHECK(ended->reason == finish_reason::cancelled);
    CHECK(world.steps->handed_out == 0);
}

TEST_CASE("a waiting request that is cancelled ends at once") {
    actor_world::options narrow;
    narrow.sequences_max = 1;
    actor_world world(narrow);
    world.submit(1, world.sink);
    world.submit(2, world.sink);
    world.settle();
    world.cancel(2, world.sink);
    world.settle();
    const auto ended = world.record->finished(2);
    REQUIRE(ended);
    CHECK(ended->reason == finish_reason::cancelled);
    CHECK_FALSE(world.record->finished(1));
    world.run_to_end();
    CHECK(world.record->tokens(1) == 2);
    CHECK(world.record->tokens(2) == 0);
}

TEST_CASE("a request in flight that is cancelled ends at once, and its row is ignored when it returns") {
    actor_world world;
    world.submit(1, world.sink, 50);
    world.settle();
    world.answer_step();
    CHECK(world.record->tokens(1) == 1);
    world.cancel(1, world.sink);
    world.settle();
    const auto ended = world.record->finished(1);
    REQUIRE(ended);
    CHECK(ended->reason == finish_reason::cancelled);
    CHECK(ended->token_ids.size() == 1);
    world.answer_step();
    CHECK(world.steps->plans.empty());
    CHECK(world.record->tokens(1) == 1);
    CHECK(world.record->finished(1));
}

TEST_CASE("cancelling what is over or was never there does nothing") {
    actor_world world;
    world.submit(1, world.sink);
    world.settle();
    world.run_to_end();
    const auto heard = world.record->batches.size();
    world.cancel(1, world.sink);
    world.cancel(99, world.sink);
    world.settle();
    CHECK(world.record->batches.size() == heard);
}

TEST_CASE("a sink's cancel touches nobody else's request of the same number") {
    actor_world world;
    const auto other = std::make_shared<sink_record>();
    auto other_sink = world.spawn_sink(other);
    world.submit(1, world.sink);
    world.submit(1, other_sink);
    world.settle();
    world.cancel(1, other_sink);
    world.settle();
    world.run_to_end();
    CHECK(world.record->tokens(1) == 2);
    REQUIRE(other->finished(1));
    CHECK(other->finished(1)->reason == finish_reason::cancelled);
    world.end_sink(other_sink);
}

TEST_CASE("the death of a sink cancels what it asked for, wherever it is") {
    actor_world::options narrow;
    narrow.sequences_max = 1;
    actor_world world(narrow);
    const auto gone = std::make_shared<sink_record>();
    auto gone_sink = world.spawn_sink(gone);
    world.submit(1, gone_sink, 50); // in flight
    world.submit(2, gone_sink, 50); // waiting
    world.settle();
    world.submit(3, world.sink);
    world.settle();
    SUBCASE("while one is in flight and one waits") {
        world.end_sink(gone_sink);
    }
    SUBCASE("while another one is being tokenised") {
        world.submit(4, gone_sink, 50);
        world.end_sink(gone_sink);
    }
    CHECK(world.steps->plans.size() == 1);
    world.run_to_end();
    CHECK(world.record->tokens(3) == 2);
    // The step in flight, and two for the one request that is left.
    CHECK(world.steps->handed_out == 3);
    const auto drained = world.ask_drain(world.intake);
    CHECK(*drained == true);
}

TEST_CASE("beyond its bounds intake refuses, and what runs goes on") {
    actor_world::options narrow;
    narrow.open_max = 2;
    actor_world world(narrow);
    for (const std::uint64_t tag : {1, 2, 3})
        world.submit(tag, world.sink);
    world.settle();
    CHECK(code_of(world.record->finished(3)) == errc::queue_full);
    world.run_to_end();
    CHECK(world.record->tokens(1) == 2);
    CHECK(world.record->tokens(2) == 2);
}

TEST_CASE("beyond its bounds the batcher refuses, and what waits goes on") {
    actor_world::options narrow;
    narrow.sequences_max = 1;
    narrow.queue_max = 1;
    actor_world world(narrow);
    for (const std::uint64_t tag : {1, 2, 3}) {
        world.submit(tag, world.sink);
        world.settle();
    }
    CHECK(code_of(world.record->finished(3)) == errc::queue_full);
    world.run_to_end();
    CHECK(world.record->tokens(1) == 2);
    CHECK(world.record->tokens(2) == 2);
}

TEST_CASE("a number that is still running is refused, and the running one keeps its events and can be cancelled") {
    actor_world world;
    SUBCASE("while it is tokenised") {
        world.submit(1, world.sink, 50);
    }
    SUBCASE("while it runs") {
        world.submit(1, world.sink, 50);
        world.settle();
    }
    world.record->batches.clear();
    world.submit(1, world.sink, 50);
    world.settle();
    REQUIRE(world.record->batches.size() == 1);
    CHECK(code_of(world.record->batches[0]->events[0].finished) == errc::duplicate_id);
    world.record->batches.clear();
    world.answer_step();
    CHECK(world.record->tokens(1) == 1);
    world.cancel(1, world.sink);
    world.settle();
    REQUIRE(world.record->finished(1));
    CHECK(world.record->finished(1)->reason == finish_reason::cancelled);
    world.run_to_end();
    // The number is free again.
    world.record->batches.clear();
    world.submit(1, world.sink);
    world.settle();
    world.run_to_end();
    CHECK(world.record->tokens(1) == 2);
}

TEST_CASE("what cannot be served is refused with its reason, by whoever finds out") {
    actor_world world;
    const auto refused = [&](std::uint64_t tag, generation_input input) {
        caf::anon_send(world.intake, submit_atom{}, tag,
                       generation_input_ptr(std::make_shared<generation_input>(std::move(input))), world.sink);
        world.settle();
        return code_of(world.record->finished(tag));
    };
    generation_input input;
    CHECK(refused(1, input) == errc::invalid_argument);
    input.ids = std::vector<token_id>{100};
    CHECK(refused(2, input) == errc::token_out_of_range);
    input.ids = std::vector<token_id>(64, 3);
    CHECK(refused(3, input) == errc::prompt_too_long);
    generation_input text;
    text.prompt = "no tokenizer here";
    CHECK(refused(4, text) == errc::unsupported);
    CHECK(world.steps->handed_out == 0);
}

TEST_CASE("draining answers when the last request has ended, and takes nothing new meanwhile") {
    actor_world world;
    world.submit(1, world.sink);
    world.settle();
    const auto drained = world.ask_drain(world.intake);
    const auto again = world.ask_drain(world.intake);
    CHECK_FALSE(drained->has_value());
    world.submit(2, world.sink);
    world.settle();
    CHECK(code_of(world.record->finished(2)) == errc::draining);
    world.answer_step();
    CHECK_FALSE(drained->has_value());
    world.run_to_end();
    CHECK(*drained == true);
    CHECK(*again == true);
    CHECK(world.record->tokens(1) == 2);
}

TEST_CASE("draining waits for a request that is still being tokenised") {
    actor_world world;
    world.submit(1, world.sink);
    const auto drained = world.ask_drain(world.intake);
    CHECK_FALSE(drained->has_value());
    world.run_to_end();
    CHECK(*drained == true);
    CHECK(world.record->tokens(1) == 2);
}

TEST_CASE("draining waits for a step whose request was cancelled") {
    actor_world world;
    world.submit(1, world.sink, 50);
    world.settle();
    world.cancel(1, world.sink);
    const auto drained = world.ask_drain(world.intake);
    CHECK_FALSE(drained->has_value()); // its pages are still being written
    world.answer_step();
    CHECK(*drained == true);
}

TEST_CASE("an idle runtime drains at once") {
    actor_world world;
    CHECK(*world.ask_drain(world.intake) == true);
}

TEST_CASE("a step that fails ends exactly the requests that had rows in it") {
    actor_world::options narrow;
    narrow.sequences_max = 1;
    actor_world world(narrow);
    world.submit(1, world.sink);
    world.submit(2, world.sink);
    world.settle();
    world.fail_step(errc::io_error);
    CHECK(code_of(world.record->finished(1)) == errc::io_error);
    CHECK_FALSE(world.record->finished(2));
    world.run_to_end();
    CHECK(world.record->tokens(2) == 2);
}

TEST_CASE("preempted sequences are recomputed and lose nothing") {
    actor_world world;
    world.submit(1, world.sink, 6);
    world.submit(2, world.sink, 6);
    world.settle();
    world.answer_step();
    world.answer_step();
    caf::anon_send(world.batcher, preempt_atom{}, 8);
    world.settle();
    world.run_to_end();
    for (const std::uint64_t tag : {1, 2}) {
        CHECK(world.record->tokens(tag) == 6);
        REQUIRE(world.record->finished(tag));
        CHECK(world.record->finished(tag)->reason == finish_reason::length);
    }
    CHECK(world.record->finished(2)->preemptions == 1);
}
