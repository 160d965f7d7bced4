#include "actors/execution_stream.hpp"

#include "actors/callback_sink.hpp"
#include "tests/actors/actor_world.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

/// A batcher that only notes what the stream tells it.
step_listener_actor spawn_listener(caf::actor_system& system, const std::shared_ptr<std::vector<step_result_ptr>>& heard) {
    return system.spawn([heard](step_listener_actor::pointer) -> step_listener_actor::behavior_type {
        return {
            [heard](advance_atom, const step_result_ptr& outcome) { heard->push_back(outcome); },
        };
    });
}

step_plan_ptr plan_number(std::uint64_t number) {
    auto plan = std::make_shared<step_plan>();
    plan->number = number;
    return plan;
}

} // namespace

TEST_CASE("the stream answers every plan with its result, in order, failures too") {
    actor_world world;
    const auto heard = std::make_shared<std::vector<step_result_ptr>>();
    auto listener = spawn_listener(world.system(), heard);
    std::vector<std::uint64_t> ran;
    const auto run = [&](const step_plan& plan) {
        ran.push_back(plan.number);
        step_result outcome;
        outcome.number = plan.number;
        if (plan.number == 2)
            outcome.failure = error{errc::device_error, "as scripted"};
        return outcome;
    };
    auto stream = spawn_execution_stream(world.system(), run, false);
    for (const std::uint64_t number : {1, 2, 3})
        caf::anon_send(stream, run_step_atom{}, plan_number(number), listener);
    world.settle();
    CHECK(ran == std::vector<std::uint64_t>{1, 2, 3});
    REQUIRE(heard->size() == 3);
    CHECK_FALSE((*heard)[0]->failure);
    REQUIRE((*heard)[1]->failure);
    CHECK((*heard)[1]->failure->code == errc::device_error);
    CHECK((*heard)[2]->number == 3);
    end_now(stream, caf::exit_reason::kill);
    end_now(listener, caf::exit_reason::kill);
    world.settle();
}

TEST_CASE("callbacks hear of their own request only, and nothing after its end") {
    callback_registry registry;
    std::vector<std::uint64_t> heard;
    for (const std::uint64_t tag : {1, 2})
        registry.add(tag, [&heard](const output_event& event) { heard.push_back(event.tag); });
    output_batch news;
    news.events.push_back({1, {}, {}, std::nullopt});
    news.events.push_back(refused(2, {errc::internal, "as scripted"}));
    news.events.push_back({3, {}, {}, std::nullopt});
    registry.deliver(news);
    CHECK(heard == std::vector<std::uint64_t>{1, 2});
    registry.deliver(news);
    CHECK(heard == std::vector<std::uint64_t>{1, 2, 1});
    registry.fail_all({errc::internal, "as scripted"});
    registry.fail_all({errc::internal, "as scripted"});
    CHECK(heard == std::vector<std::uint64_t>{1, 2, 1, 1});
}

TEST_CASE("a callback may submit the next request from within the end of the last") {
    callback_registry registry;
    std::vector<int> order;
    registry.add(1, [&](const output_event&) {
        order.push_back(1);
        registry.add(2, [&](const output_event&) { order.push_back(2); });
    });
    output_batch news;
    news.events.push_back(refused(1, {}));
    news.events.push_back(refused(2, {}));
    registry.deliver(news);
    CHECK(order == std::vector<int>{1, 2});
}
