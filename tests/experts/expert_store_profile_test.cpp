// Profiles in the store: what is warmed, in which order, and that demand and live resizes do not care.
#include "tests/experts/fake_slab_source.hpp"

#include <array>
#include <doctest/doctest.h>
#include <numeric>
#include <thread>

using namespace moira;

namespace {

std::unique_ptr<expert_store> make_store(slab_source& source, std::uint64_t slots) {
    auto options = small_store(source, slots);
    options.loader_threads = 2;
    auto policy = make_eviction_policy("foresight", {options.layers, options.experts, options.moe_layers});
    REQUIRE(policy);
    auto store = expert_store::create(options, source, std::move(*policy));
    REQUIRE(store);
    return std::move(*store);
}

/// A profile in which the experts named first are used most.
expert_profile profile_of(const expert_store& store, const std::vector<expert_id>& hottest) {
    auto profile = store.usage();
    float rate = 0.9F;
    for (const expert_id expert : hottest) {
        profile.use_rates[static_cast<std::size_t>(expert.layer * profile.experts + expert.expert)] = rate;
        rate *= 0.9F;
    }
    return profile;
}

bool holds(const expert_store& store, expert_id expert) {
    std::vector<std::uint8_t> present(static_cast<std::size_t>(expert.expert) + 1);
    store.mark_residents(expert.layer, present);
    return present.back() != 0;
}

template <class Condition>
bool eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline)
            return false;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return true;
}

} // namespace

TEST_CASE("a profile fills the budget with what is used most, and counts as neither demand nor prefetch") {
    fake_slab_source source;
    const auto store = make_store(source, 4);
    const std::vector<expert_id> hottest = {{1, 3}, {0, 2}, {2, 0}, {0, 1}, {1, 1}, {2, 2}};
    REQUIRE(store->warm_up(profile_of(*store, hottest)));
    REQUIRE(eventually([&] { return store->statistics().resident == 4; }));
    for (std::size_t i = 0; i < hottest.size(); ++i)
        CHECK(holds(*store, hottest[i]) == (i < 4));
    const auto counted = store->statistics();
    CHECK(counted.profile_loads == 4);
    CHECK(counted.demand_loads == 0);
    CHECK(counted.demand_bytes == 0);
    CHECK(counted.prefetch_loads == 0);
    CHECK(counted.evictions == 0);
    auto lease = store->acquire(1, std::array{3});
    REQUIRE(lease);
    CHECK(lease->missing().empty());
}

TEST_CASE("demand does not wait for a profile, and stopping it leaves the rest away") {
    fake_slab_source source;
    const auto store = make_store(source, 6);
    source.set_gate(false);
    REQUIRE(store->warm_up(profile_of(*store, {{1, 3}, {0, 2}, {2, 0}, {0, 1}, {1, 1}})));
    // The link is held up, so only what has begun is on its way.
    REQUIRE(eventually([&] { return store->statistics().profile_loads >= 1; }));
    const auto begun = store->statistics().profile_loads;
    CHECK(begun < 5);
    store->stop_warm_up();
    auto lease = store->acquire(2, std::array{5});
    REQUIRE(lease);
    source.set_gate(true);
    REQUIRE(wait_all(*lease));
    REQUIRE(eventually([&] { return store->statistics().resident == begun + 1; }));
    CHECK(store->statistics().profile_loads == begun);
}

TEST_CASE("a profile of other sizes is refused, a smaller budget ends the warming") {
    fake_slab_source source;
    const auto store = make_store(source, 8);
    auto wrong = store->usage();
    ++wrong.layers;
    CHECK(store->warm_up(wrong).error().code == errc::invalid_argument);
    std::vector<expert_id> all;
    for (std::int32_t expert = 0; expert < 6; ++expert)
        all.push_back({0, expert});
    const auto slot_bytes = store->statistics().budget_bytes / 8;
    REQUIRE(store->warm_up(profile_of(*store, all)));
    REQUIRE(store->resize(4 * slot_bytes));
    REQUIRE(eventually([&] { return store->statistics().resident <= 4; }));
    auto lease = store->acquire(1, std::array{0, 1});
    REQUIRE(lease);
    REQUIRE(wait_all(*lease));
    CHECK(store->statistics().resident <= 4);
}

TEST_CASE("usage holds what was used and what a profile said, which fades") {
    fake_slab_source source;
    const auto store = make_store(source, 4);
    const auto rate = [&](expert_id expert) {
        const auto usage = store->usage();
        return usage.use_rates[static_cast<std::size_t>(expert.layer * usage.experts + expert.expert)];
    };
    REQUIRE(store->warm_up(profile_of(*store, {{0, 2}})));
    CHECK(rate({0, 2}) == doctest::Approx(0.9));
    CHECK(rate({0, 3}) == 0);
    for (int visit = 0; visit < 200; ++visit) {
        auto lease = store->acquire(0, std::array{3});
        REQUIRE(lease);
        REQUIRE(wait_all(*lease));
    }
    CHECK(rate({0, 2}) < 0.85F);
    CHECK(rate({0, 2}) > 0.5F);
    CHECK(rate({0, 3}) > 0.05F);
    CHECK(rate({1, 3}) == 0);
}
