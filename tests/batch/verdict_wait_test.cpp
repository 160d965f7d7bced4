#include "core/batch/verdict_wait.hpp"

#include <doctest/doctest.h>

using namespace moira;
using namespace std::chrono_literals;

namespace {

constexpr verdict_wait::time_point now{};

verdict_wait::result_ptr result_of(std::uint64_t step, std::optional<error> failure = {}) {
    step_result made;
    made.number = step;
    made.failure = std::move(failure);
    return std::make_shared<const step_result>(std::move(made));
}

verdict_wait::verdict_ptr verdict_on(std::uint64_t step) {
    step_verdict made;
    made.step = step;
    return std::make_shared<const step_verdict>(std::move(made));
}

verdict_wait at_step(std::uint64_t number) {
    verdict_wait wait;
    wait.verifier_changed(true);
    wait.step_begins(number);
    return wait;
}

} // namespace

TEST_CASE("a result with drafts waits for its verdict and goes on with it") {
    auto wait = at_step(7);
    REQUIRE(wait.holds(result_of(7), true, now));
    CHECK(wait.waiting());
    REQUIRE(wait.verdict_came(verdict_on(7)) == verdict_wait::arrival::concludes);
    const auto step = wait.take();
    REQUIRE(step);
    CHECK(step->result->number == 7);
    REQUIRE(step->verdict);
    CHECK(step->verdict->step == 7);
    CHECK_FALSE(wait.waiting());
}

TEST_CASE("a verdict that comes before the result of its step is kept for it") {
    auto wait = at_step(7);
    CHECK(wait.verdict_came(verdict_on(7)) == verdict_wait::arrival::kept);
    CHECK_FALSE(wait.holds(result_of(7), true, now));
    CHECK(wait.take_judged(result_of(7)).verdict);
}

TEST_CASE("nothing waits without drafts, without a verifier, for a failed step, or for one that is not the latest") {
    auto wait = at_step(7);
    CHECK_FALSE(wait.holds(result_of(7), false, now));
    CHECK_FALSE(wait.holds(result_of(7, error{errc::device_error, "lost"}), true, now));
    CHECK_FALSE(wait.holds(result_of(6), true, now));
    wait.verifier_changed(false);
    CHECK_FALSE(wait.holds(result_of(7), true, now));
    CHECK_FALSE(wait.waiting());
}

TEST_CASE("a late verifier is not waited for again until a verdict comes in time") {
    auto wait = at_step(7);
    REQUIRE(wait.holds(result_of(7), true, now));
    CHECK_FALSE(wait.overdue(now + 4ms, 5ms));
    REQUIRE(wait.overdue(now + 5ms, 5ms));
    const auto step = wait.take();
    REQUIRE(step);
    CHECK_FALSE(step->verdict);
    wait.step_begins(8);
    CHECK(wait.verdict_came(verdict_on(7)) == verdict_wait::arrival::late);
    CHECK_FALSE(wait.holds(result_of(8), true, now));
    CHECK_FALSE(wait.take_judged(result_of(8)).verdict);
    wait.step_begins(9);
    CHECK(wait.verdict_came(verdict_on(9)) == verdict_wait::arrival::kept);
    CHECK(wait.take_judged(result_of(9)).verdict);
    wait.step_begins(10);
    CHECK(wait.holds(result_of(10), true, now));
}

TEST_CASE("a verdict on a step that went on without it is late, and never judges another step") {
    auto wait = at_step(7);
    CHECK_FALSE(wait.take_judged(result_of(7)).verdict);
    CHECK(wait.verdict_came(verdict_on(7)) == verdict_wait::arrival::late);
    wait.step_begins(8);
    CHECK(wait.verdict_came(verdict_on(7)) == verdict_wait::arrival::late);
    CHECK_FALSE(wait.take_judged(result_of(8)).verdict);
    CHECK_FALSE(wait.take());
}

TEST_CASE("what waits for a verifier that ended goes on without a verdict") {
    auto wait = at_step(7);
    REQUIRE(wait.holds(result_of(7), true, now));
    wait.verifier_changed(false);
    const auto step = wait.take();
    REQUIRE(step);
    CHECK_FALSE(step->verdict);
}
