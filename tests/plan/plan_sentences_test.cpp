#include "core/plan/plan_sentences.hpp"
#include "tests/plan/planned_model.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

bool holds(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

model_plan slow_plan() {
    model_plan plan;
    plan.budget.placed = plan.budget.fits = true;
    plan.budget.slots = 10;
    plan.budget.slots_all = 20;
    plan.speed.emplace();
    plan.speed->tok_s = 0.8;
    return plan;
}

} // namespace

TEST_CASE("bytes and durations are rounded for people") {
    CHECK(bytes_text(0) == "0 bytes");
    CHECK(bytes_text(std::uint64_t{12} << 30) == "12 GiB");
    CHECK(bytes_text(std::uint64_t{1503238553}) == "1.4 GiB");
    CHECK(bytes_text((std::uint64_t{1} << 30) - 1) == "1.0 GiB");
    CHECK(bytes_text(std::uint64_t{640} << 20) == "640 MiB");
    CHECK(duration_text(0.2) == "less than a second");
    CHECK(duration_text(1) == "1 second");
    CHECK(duration_text(50.3) == "50 seconds");
    CHECK(duration_text(1.3) == "1 second");
    CHECK(duration_text(120) == "2 minutes");
    CHECK(duration_text(325) == "5 minutes");
    CHECK(duration_text(9000) == "2.5 hours");
    CHECK(duration_text(7200) == "2 hours");
    CHECK(speed_text(0.83) == "0.8");
    CHECK(speed_text(0.034) == "0.034");
    CHECK(speed_text(12.3) == "12");
    CHECK(speed_text(234) == "230");
}

TEST_CASE("a slow plan says how long an answer takes and what memory would change") {
    auto plan = slow_plan();
    plan.more = more_memory{std::uint64_t{12} << 30, 5.2};
    CHECK(plan_sentence(plan) ==
          "0.8 tokens/s: a 200-word answer takes about 5 minutes; 12 GiB more memory would make it 50 seconds.");
    plan.speed_high.emplace();
    plan.speed_high->tok_s = 1.6;
    CHECK(holds(plan_sentence(plan), "up to 1.6"));
}

TEST_CASE("everything in memory is said shortly") {
    auto plan = slow_plan();
    plan.budget.slots = plan.budget.slots_all;
    CHECK(holds(plan_sentence(plan), "all experts are in memory"));
}

TEST_CASE("what does not run says why") {
    const auto plan =
        make_plan(round_model(), small_wish(), std::uint64_t{64} << 20, {10, 1}, uniform_hits(), skewed_hits()).value();
    CHECK(holds(plan_sentence(plan), "does not run: "));
    CHECK(holds(plan_sentence(plan), "more memory would make it run"));
    auto unknown = slow_plan();
    unknown.speed.reset();
    CHECK(holds(plan_sentence(unknown), "--disk-gb-s"));
}
