// Visits of a layer: their order, what they hold, what they cost where everything is in memory, and failures.
#include "core/experts/expert_visit.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <doctest/doctest.h>
#include <new>

using namespace moira;

namespace {

thread_local std::uint64_t allocations = 0; // of the thread that visits; loaders have their own

} // namespace

// The whole program counts, so that nothing can hide. Not inlined: the compiler would take a free() of what new
// returned for a mistake.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    ++allocations;
    if (void* made = std::malloc(std::max<std::size_t>(bytes, 1)))
        return made;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* gone) noexcept {
    std::free(gone);
}
[[gnu::noinline]] void operator delete(void* gone, std::size_t) noexcept {
    std::free(gone);
}

namespace {

std::unique_ptr<expert_store> make_store(slab_source& source, std::uint64_t slots, std::uint32_t loader_threads = 2,
                                         std::unique_ptr<eviction_policy> policy = nullptr) {
    auto options = small_store(source, slots);
    options.loader_threads = loader_threads;
    auto store = expert_store::create(options, source, std::move(policy));
    REQUIRE(store);
    return std::move(*store);
}

using ids = std::vector<std::int32_t>;

/// All experts as they were named; each was there.
ids play(expert_store& store, const fake_slab_source& source, std::int32_t layer, const ids& experts) {
    ids named;
    expert_visit visit(store, {layer, experts});
    while (!visit.over()) {
        const auto some = visit.next();
        REQUIRE(some);
        for (const auto& [expert, generation] : *some) {
            named.push_back(expert);
            const auto& entry = store.table(layer)[expert];
            REQUIRE(source.shows(entry, {layer, expert}));
            REQUIRE(entry.generation == generation);
        }
    }
    REQUIRE(visit.all_asked());
    REQUIRE(visit.next());
    REQUIRE(visit.next()->empty());
    return named;
}

ids sorted(ids values) {
    std::sort(values.begin(), values.end());
    return values;
}

} // namespace

TEST_CASE("a visit names every expert once, those in memory first and together") {
    for (const std::uint32_t loaders : {0U, 1U, 3U}) {
        CAPTURE(loaders);
        fake_slab_source source;
        const auto store = make_store(source, 8, loaders);
        CHECK(sorted(play(*store, source, 1, {2, 7, 9})) == ids{2, 7, 9});
        const ids wish{0, 2, 3, 7, 8};
        expert_visit visit(*store, {1, wish});
        const auto residents = visit.next();
        REQUIRE(residents);
        REQUIRE(residents->size() >= 2);
        CHECK((*residents)[0].expert == 2);
        CHECK((*residents)[1].expert == 7);
        std::size_t named = residents->size();
        while (!visit.over())
            named += visit.next()->size();
        CHECK(named == wish.size());
        CHECK(store->statistics().hits == 2);
        CHECK(store->statistics().demand_loads == 6);
        CHECK(store->statistics().waves == 3 + 1 + 3);
    }
}

TEST_CASE("a visit of more experts than slots passes, with every policy") {
    for (const auto name : eviction_policy_names()) {
        fake_slab_source source;
        auto policy = make_eviction_policy(name, {.layers = 4, .experts = 16, .moe_layers = 3});
        REQUIRE(policy);
        const auto store = make_store(source, 2, 2, std::move(*policy));
        ids all(16);
        for (std::size_t index = 0; index < all.size(); ++index)
            all[index] = static_cast<std::int32_t>(index);
        for (int round = 0; round < 20; ++round)
            CHECK(sorted(play(*store, source, 1 + round % 3, all)) == all);
        CHECK(store->statistics().resident == 2);
    }
}

TEST_CASE("where everything is in memory a visit allocates nothing, with every policy") {
    for (const auto name : eviction_policy_names()) {
        CAPTURE(name);
        fake_slab_source source;
        auto policy = make_eviction_policy(name, {.layers = 4, .experts = 16, .moe_layers = 3});
        REQUIRE(policy);
        const auto store = make_store(source, 48, 2, std::move(*policy));
        const std::array<std::int32_t, 4> wish{1, 4, 9, 15};
        const auto visit_once = [&] {
            expert_visit visit(*store, {1, wish});
            while (!visit.over())
                if (!visit.next())
                    std::abort();
        };
        for (int warm = 0; warm < 8; ++warm)
            visit_once();
        const auto before = allocations;
        for (int repeat = 0; repeat < 100; ++repeat)
            visit_once();
        CHECK(allocations == before);
        CHECK(store->statistics().hits == 7 * 4 + 100 * 4);
    }
}

TEST_CASE("pins end in the order in which they began, whatever arrives first, so that the policy decides alike") {
    // With one slot fewer than experts, what leaves depends on what is pinned when.
    const auto evictions_with = [](std::uint32_t loaders, std::chrono::microseconds delay) {
        fake_slab_source source;
        source.set_delay(delay);
        const auto store = make_store(source, 7, loaders, make_lru_policy(false));
        ids found;
        for (int round = 0; round < 30; ++round) {
            ids wish;
            for (int expert = 0; expert < 16; ++expert)
                if ((expert * 7 + round * 5) % 3 == 0)
                    wish.push_back(expert);
            play(*store, source, 1 + round % 3, wish);
            found.push_back(static_cast<std::int32_t>(store->statistics().hits));
        }
        return found;
    };
    const auto expected = evictions_with(3, std::chrono::microseconds(0));
    for (const int delay_us : {50, 200})
        CHECK(evictions_with(3, std::chrono::microseconds(delay_us)) == expected);
}

TEST_CASE("the last ones are sent for before anybody waits, and a visit that is dropped holds nothing") {
    fake_slab_source source;
    const auto store = make_store(source, 4, 2);
    source.set_gate(false);
    {
        const std::array<std::int32_t, 2> wish{3, 5};
        expert_visit visit(*store, {1, wish});
        const auto none = visit.next(); // would wait for ever otherwise
        REQUIRE(none);
        CHECK(none->empty());
        CHECK(visit.all_asked());
        CHECK_FALSE(visit.over());
        source.set_gate(true);
        const auto some = visit.next();
        REQUIRE(some);
        CHECK_FALSE(some->empty());
        CHECK(visit.stall_s() > 0);
    }
    const std::array<std::int32_t, 4> all_slots{0, 1, 2, 6};
    auto lease = store->acquire(2, all_slots);
    REQUIRE(lease);
    REQUIRE(wait_all(*lease));
}

TEST_CASE("a failed load names its expert, spares the others, and later visits load it") {
    for (const std::uint32_t loaders : {0U, 2U}) {
        fake_slab_source source;
        const auto store = make_store(source, 6, loaders);
        source.fail_next({1, 5}, 1, errc::corrupt_file);
        {
            const std::array<std::int32_t, 4> wish{2, 3, 5, 8};
            expert_visit visit(*store, {1, wish});
            CHECK(visit.failed().empty());
            auto some = visit.next();
            while (some && !visit.over())
                some = visit.next();
            REQUIRE_FALSE(some);
            CHECK(some.error().code == errc::corrupt_file);
            REQUIRE(visit.failed().size() == 1);
            CHECK(visit.failed()[0] == 5);
        }
        CHECK(sorted(play(*store, source, 1, {2, 3, 5, 8})) == ids{2, 3, 5, 8});
        auto lease = store->acquire(2, std::array{0, 1, 2, 3, 4, 5}); // all slots: nothing is pinned any more
        REQUIRE(lease);
        REQUIRE(wait_all(*lease));
    }
}

TEST_CASE("wishes that cannot be are refused and leave nothing behind") {
    fake_slab_source source;
    const auto store = make_store(source, 4);
    const auto refused = [&](std::int32_t layer, const ids& experts) {
        expert_visit visit(*store, {layer, experts});
        const auto some = visit.next();
        return !some && some.error().code == errc::invalid_argument;
    };
    CHECK(refused(1, {2, 2}));
    CHECK(refused(1, {16}));
    CHECK(refused(1, {-1}));
    CHECK(refused(4, {0}));
    CHECK(refused(-1, {}));
    CHECK(store->statistics().waves == 0);
    CHECK(play(*store, source, 1, {}).empty());
}

TEST_CASE("visits, leases, resizes and failures from several threads disturb nobody") {
    fake_slab_source source;
    const auto store = make_store(source, 12, 2);
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0}, good{0};
    std::thread disturber([&] {
        for (std::uint64_t turn = 0; !stop; ++turn) {
            wrong += !store->resize((8 + turn % 11) * source.slab_bytes());
            source.fail_next({static_cast<std::int32_t>(1 + turn % 3), static_cast<std::int32_t>(turn * 5 % 16)}, 1,
                             errc::corrupt_file);
            auto lease = store->acquire(static_cast<std::int32_t>(1 + turn % 3),
                                        std::array{static_cast<std::int32_t>(turn * 7 % 16)});
            wrong += !lease;
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    });
    std::vector<std::thread> visitors;
    for (std::int32_t of = 0; of < 2; ++of)
        visitors.emplace_back([&, of] {
            for (std::int32_t round = 0; round < 300; ++round) {
                const std::int32_t layer = 1 + (round + of) % 3;
                ids wish;
                for (std::int32_t expert = 0; expert < 16; ++expert)
                    if ((expert * 5 + round * 3 + of) % 4 == 0)
                        wish.push_back(expert);
                expert_visit visit(*store, {layer, wish});
                result<std::span<const pinned_expert>> some;
                for (some = visit.next(); some && !visit.over(); some = visit.next())
                    for (const auto& [expert, generation] : *some) {
                        wrong += !source.shows(store->table(layer)[expert], {layer, expert});
                        wrong += store->table(layer)[expert].generation != generation;
                    }
                good += some.has_value();
                wrong += !some && some.error().code != errc::corrupt_file;
            }
        });
    for (std::thread& visitor : visitors)
        visitor.join();
    stop = true;
    disturber.join();
    CHECK(wrong == 0);
    CHECK(good > 200);
}
