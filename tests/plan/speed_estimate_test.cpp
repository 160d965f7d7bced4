#include "core/plan/speed_estimate.hpp"
#include "tests/plan/planned_model.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

double sum(const speed_estimate& speed) {
    return speed.dense_s + speed.kv_s + speed.experts_s + speed.overhead_s + speed.reads_s - speed.hidden_s;
}

} // namespace

TEST_CASE("the terms add up to the step") {
    for (const double hits : {0.0, 0.3, 0.9, 1.0}) {
        const auto speed = estimate_speed(round_model(), {10, 1}, hits, 100);
        REQUIRE(speed);
        CHECK(sum(*speed) == doctest::Approx(speed->step_s));
        CHECK(speed->tok_s == doctest::Approx(1 / speed->step_s));
        CHECK(speed->tok_s <= speed->tok_s_overlapped);
    }
}

TEST_CASE("with every expert in memory nobody needs to know the disk") {
    const auto speed = estimate_speed(round_model(), {10, std::nullopt}, 1.0, 1);
    REQUIRE(speed);
    CHECK(speed->reads_s == 0);
    CHECK(speed->disk_bytes_per_token == 0);
    CHECK_FALSE(estimate_speed(round_model(), {10, std::nullopt}, 0.99, 1));
}

TEST_CASE("without hits nothing hides the reads, all of which come from the disk") {
    const auto speed = estimate_speed(round_model(), {10, 1}, 0.0, 1);
    REQUIRE(speed);
    CHECK(speed->disk_bytes_per_token == 8 * round_model().disk_bytes);
    CHECK(speed->reads_s == doctest::Approx(8.0 * (1 << 20) / 1e9));
    CHECK(speed->hidden_s == doctest::Approx(0.0));
}

TEST_CASE("what hides is at most the reads and at most the experts' compute") {
    for (const double disk : {0.1, 1.0, 20.0})
        for (const double hits : {0.25, 0.5, 0.75}) {
            const auto speed = estimate_speed(round_model(), {10, disk}, hits, 1);
            REQUIRE(speed);
            CHECK(speed->hidden_s > 0);
            CHECK(speed->hidden_s <= speed->reads_s);
            CHECK(speed->hidden_s <= speed->experts_s);
        }
}

TEST_CASE("a faster disk, faster memory and more hits are never slower") {
    const auto at = [](double memory, double disk, double hits) {
        return estimate_speed(round_model(), {memory, disk}, hits, 1)->tok_s;
    };
    CHECK(at(10, 2, 0.5) > at(10, 1, 0.5));
    CHECK(at(20, 1, 0.5) > at(10, 1, 0.5));
    CHECK(at(10, 1, 0.6) > at(10, 1, 0.5));
    CHECK(at(10, 1, 1.0) > at(10, 1, 0.99));
}
