// Losing or outwaiting the verifier costs drafts and nothing else. The world samples 7 everywhere, so texts repeat.
#include "actors/speculative_verifier.hpp"

#include "tests/actors/actor_world.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

constexpr std::int64_t tokens = 24;

actor_world::options drafting(std::chrono::milliseconds wait = std::chrono::milliseconds(0)) {
    actor_world::options wanted;
    wanted.drafts = true;
    wanted.verdict_wait_max = wait;
    return wanted;
}

/// Answers steps until one with a draft is in flight.
void reach_draft(actor_world& world) {
    for (int steps = 0; steps < 20; ++steps) {
        REQUIRE_FALSE(world.steps->plans.empty());
        if (world.steps->plans.front()->samples.size() > 1)
            return;
        world.answer_step();
    }
    FAIL("nothing is drafted");
}

void check_text(actor_world& world, std::uint64_t tag) {
    const auto ended = world.record->finished(tag);
    REQUIRE(ended);
    CHECK(ended->reason == finish_reason::length);
    CHECK(ended->token_ids == std::vector<token_id>(static_cast<std::size_t>(tokens), 7));
}

} // namespace

TEST_CASE("a text that repeats is drafted, judged and finished in fewer steps than it has tokens") {
    actor_world world(drafting());
    world.submit(1, world.sink, tokens);
    world.settle();
    world.run_to_end();
    check_text(world, 1);
    CHECK(world.record->finished(1)->speculation.accepted > 8);
    CHECK(world.steps->handed_out < static_cast<std::size_t>(tokens));
}

TEST_CASE("the batcher holds a step with drafts until the verdict is there, and a plain one not at all") {
    actor_world world(drafting(std::chrono::hours(1)));
    world.submit(1, world.sink, tokens);
    world.settle();
    world.answer_batcher();
    CHECK_FALSE(world.steps->plans.empty());
    world.let_verifier_judge();
    reach_draft(world);
    const auto before = world.record->tokens(1);
    world.answer_batcher();
    CHECK(world.steps->plans.empty());
    CHECK(world.record->tokens(1) == before);
    world.let_verifier_judge();
    CHECK(world.record->tokens(1) > before + 1);
    world.run_to_end();
    check_text(world, 1);
}

TEST_CASE("a verifier that ends while its verdict is waited for costs no token") {
    actor_world world(drafting(std::chrono::hours(1)));
    world.submit(1, world.sink, tokens);
    world.settle();
    reach_draft(world);
    world.answer_batcher();
    REQUIRE(world.steps->plans.empty());
    end_now(world.verifier, caf::exit_reason::kill);
    world.settle();
    CHECK_FALSE(world.steps->plans.empty());
    for (int steps = 0; steps < 3; ++steps)
        world.answer_batcher();
    const auto accepted = world.record->tokens(1);
    CHECK(accepted >= 4);
    world.restart_verifier(); // running texts are followed again
    reach_draft(world);
    world.run_to_end();
    check_text(world, 1);
}

TEST_CASE("a verdict that is overdue is not waited for") {
    actor_world world(drafting());
    world.submit(1, world.sink, tokens);
    world.settle();
    reach_draft(world);
    world.answer_batcher();
    REQUIRE(world.steps->plans.empty());
    caf::anon_send(world.batcher, watch_atom{});
    world.settle();
    CHECK_FALSE(world.steps->plans.empty());
    // Nor is the next one, until the verifier has caught up.
    while (!world.steps->plans.empty())
        world.answer_batcher();
    check_text(world, 1);
    world.submit(2, world.sink, tokens);
    world.settle();
    world.run_to_end();
    check_text(world, 2);
}

TEST_CASE("a stream lost while a verdict is waited for loses nothing") {
    actor_world world(drafting(std::chrono::hours(1)));
    world.submit(1, world.sink, tokens);
    world.settle();
    reach_draft(world);
    world.answer_batcher();
    REQUIRE(world.steps->plans.empty());
    world.lose_stream();
    CHECK_FALSE(world.steps->plans.empty());
    world.run_to_end();
    check_text(world, 1);
}
