#include "core/plan/model_plan.hpp"
#include "tests/plan/planned_model.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

model_plan planned(std::uint64_t memory_bytes, const plan_wish& wish = small_wish()) {
    return make_plan(round_model(), wish, memory_bytes, {10, 0.5}, uniform_hits(), skewed_hits()).value();
}

} // namespace

TEST_CASE("more memory is offered where experts stay outside, with the speed that it gives") {
    const auto all_bytes = planned(std::uint64_t{1} << 30).budget.memory_bytes_all;
    const auto plan = planned(all_bytes - (std::uint64_t{16} << 20));
    REQUIRE(plan.speed);
    CHECK(plan.budget.slots == 16);
    CHECK(plan.expected_hit_rate == doctest::Approx(0.5));
    CHECK(plan.hit_rate_high > plan.expected_hit_rate);
    REQUIRE(plan.more);
    CHECK(plan.more->bytes == std::uint64_t{16} << 20);
    CHECK(plan.more->tok_s == doctest::Approx(planned(all_bytes).speed->tok_s));
}

TEST_CASE("nothing is offered where everything is in memory") {
    const auto plan = planned(std::uint64_t{1} << 30);
    CHECK(plan.expected_hit_rate == 1.0);
    CHECK_FALSE(plan.more);
}

TEST_CASE("where a budget keeps experts out, the budget is what is offered more of") {
    auto wish = small_wish();
    wish.budget_bytes = std::uint64_t{8} << 20;
    const auto plan = planned(std::uint64_t{1} << 30, wish);
    REQUIRE(plan.more);
    CHECK(plan.more->bytes == std::uint64_t{24} << 20);
}

TEST_CASE("a model that does not fit has no speed") {
    const auto plan = planned(std::uint64_t{64} << 20);
    CHECK_FALSE(plan.budget.placed);
    CHECK_FALSE(plan.speed);
    CHECK_FALSE(plan.more);
}

TEST_CASE("speeds are stated for the context, up to some pages of text") {
    auto wish = small_wish();
    wish.context = 100;
    CHECK(tokens_of_estimate(wish) == 100);
    wish.context = 1 << 20;
    CHECK(tokens_of_estimate(wish) == 1024);
}
