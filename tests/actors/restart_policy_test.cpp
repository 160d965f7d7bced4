#include "actors/restart_policy.hpp"

#include <doctest/doctest.h>

using namespace moira;
using std::chrono::seconds;

TEST_CASE("a part may be started again a few times within the window, and again when it has passed") {
    restart_policy policy;
    restart_policy::time_point now{};
    for (std::size_t i = 0; i < restart_policy::restarts_max; ++i)
        CHECK(policy.allow("batcher", now += seconds(1)));
    CHECK_FALSE(policy.allow("batcher", now + seconds(1)));
    CHECK(policy.allow("batcher", now + restart_policy::window));
    CHECK(policy.counts().at("batcher") == restart_policy::restarts_max + 1);
}

TEST_CASE("parts have bounds of their own") {
    restart_policy policy;
    restart_policy::time_point now{};
    for (std::size_t i = 0; i < restart_policy::restarts_max; ++i)
        CHECK(policy.allow("intake", now));
    CHECK_FALSE(policy.allow("intake", now));
    CHECK(policy.allow("expert_cache", now));
}
