#include "core/experts/eviction_policy.hpp"

#include <array>
#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("least recently used leaves first, most recently used with bypass, pinned ones are passed over") {
    for (const bool bypass : {false, true}) {
        const auto policy = make_lru_policy(bypass);
        policy->reset(4);
        for (slot_index slot = 0; slot < 4; ++slot)
            policy->inserted(slot, {0, slot});
        policy->touched(1); // oldest to newest: 0 2 3 1
        std::array<bool, 4> evictable = {true, true, true, true};
        CHECK(policy->victim({0, 9}, evictable) == (bypass ? 1 : 0));
        evictable[0] = evictable[1] = false;
        CHECK(policy->victim({0, 9}, evictable) == (bypass ? 3 : 2));
        evictable = {false, false, false, false};
        CHECK_FALSE(policy->victim({0, 9}, evictable).has_value());
    }
}

TEST_CASE("a removed slot is no victim until it is inserted again, and a reset forgets all") {
    const auto policy = make_lru_policy(false);
    policy->reset(3);
    policy->inserted(0, {0, 0});
    policy->inserted(1, {0, 1});
    policy->removed(0);
    policy->removed(0); // harmless
    const std::array<bool, 3> evictable = {true, true, true};
    CHECK(policy->victim({0, 9}, evictable) == 1);
    policy->inserted(0, {0, 5});
    CHECK(policy->victim({0, 9}, evictable) == 1);
    policy->reset(3);
    CHECK_FALSE(policy->victim({0, 9}, evictable).has_value());
}
