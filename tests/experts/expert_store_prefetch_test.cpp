// Hints: what is loaded ahead of time, what never is, and that every hint ends as used, wasted or cancelled.
#include "core/experts/expert_store.hpp"
#include "core/experts/transfer_queue.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <array>
#include <atomic>
#include <doctest/doctest.h>
#include <random>

using namespace moira;

namespace {

std::unique_ptr<expert_store> make_store(slab_source& source, std::uint64_t slots,
                                         prefetch_mode mode = prefetch_mode::always, std::uint32_t loader_threads = 2) {
    auto options = small_store(source, slots);
    options.loader_threads = loader_threads;
    auto store = expert_store::create(options, source, nullptr);
    REQUIRE(store);
    prefetch_policy policy;
    policy.mode = mode;
    (*store)->set_prefetch(policy);
    return std::move(*store);
}

void visit(expert_store& store, std::int32_t layer, const std::vector<std::int32_t>& experts) {
    auto lease = store.acquire(layer, experts);
    REQUIRE(lease);
    REQUIRE(wait_all(*lease));
}

template <class Condition>
bool eventually(Condition holds) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!holds()) {
        if (std::chrono::steady_clock::now() > deadline)
            return false;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return true;
}

/// Whether no hint waits for an idle link any more.
bool settled(const expert_store& store) {
    return eventually([&] { return store.statistics().hints_waiting == 0; });
}

void check_accounts(const expert_store_statistics& now) {
    CHECK(now.hints.given == now.hints.refused + now.hints.cancelled + now.hints_waiting + now.prefetch_loads);
    CHECK(now.prefetch_loads == now.prefetch_useful + now.prefetch_wasted + now.prefetch_open);
    CHECK(now.prefetch_wasted_bytes == 100 * now.prefetch_wasted); // disk_bytes of the fake source
}

constexpr std::array likely{expert_hint{4, 0.9F}, expert_hint{5, 0.8F}};

} // namespace

TEST_CASE("hinted experts are loaded while the link is idle, and the layer's visit finds them") {
    fake_slab_source source;
    const auto store = make_store(source, 16);
    store->hint(2, likely);
    REQUIRE(eventually([&] { return store->statistics().resident == 2; }));
    CHECK(source.shows(store->table(2)[4], {2, 4}));
    CHECK(store->statistics().prefetch_loads == 2);
    CHECK(store->statistics().prefetch_open == 2);
    CHECK(store->statistics().demand_bytes == 0);
    visit(*store, 2, {4, 5});
    const auto counted = store->statistics();
    CHECK(counted.hits == 2);
    CHECK(counted.demand_loads == 0);
    CHECK(counted.prefetch_useful == 2);
    CHECK(counted.prefetch_open == 0);
    CHECK(counted.hints.absent_chosen == 2);
    CHECK(counted.stall_s == 0.0);
    check_accounts(counted);
    visit(*store, 2, {4, 5}); // from now on experts as any other
    CHECK(store->statistics().prefetch_useful == 2);
}

TEST_CASE("hints that are off, unknown, already here or without a spare loader load nothing") {
    fake_slab_source source;
    SUBCASE("off") {
        const auto store = make_store(source, 16, prefetch_mode::off);
        CHECK(store->hint_visits_wanted() == 0);
        store->hint(2, likely);
        CHECK(store->statistics().hints.refused == 2);
        CHECK(store->statistics().hints.absent == 2);
    }
    SUBCASE("unknown") {
        const auto store = make_store(source, 16);
        CHECK(store->hint_visits_wanted() > 0);
        store->hint(2, std::array{expert_hint{16, 0.9F}, expert_hint{-1, 0.9F}});
        store->hint(9, likely);
        store->hint(-1, likely);
        CHECK(store->statistics().hints.refused == 6);
    }
    SUBCASE("already here") {
        const auto store = make_store(source, 16);
        visit(*store, 2, {4, 5});
        store->hint(2, likely);
        CHECK(store->statistics().hints.refused == 2);
        CHECK(store->statistics().hints.absent == 0);
    }
    SUBCASE("one loader stays free for demand") {
        const auto store = make_store(source, 16, prefetch_mode::always, 1);
        CHECK(store->hint_visits_wanted() == 0);
        store->hint(2, likely);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        visit(*store, 2, {7});
        CHECK(store->statistics().hints.cancelled == 2);
    }
    CHECK(source.attempts({2, 4}) <= 1);
}

TEST_CASE("a demand for an expert that is on its way joins the read") {
    fake_slab_source source;
    const auto store = make_store(source, 16);
    source.set_gate(false);
    store->hint(2, std::array{expert_hint{4, 0.9F}});
    REQUIRE(eventually([&] { return source.attempts({2, 4}) == 1; }));
    auto lease = store->acquire(2, std::array{4, 6});
    REQUIRE(lease);
    CHECK(lease->missing().size() == 2);
    CHECK(store->statistics().prefetch_useful == 1);
    source.set_gate(true);
    REQUIRE(wait_all(*lease));
    CHECK(source.shows(store->table(2)[4], {2, 4}));
    CHECK(store->table(2)[4].generation == lease->generation(4));
    CHECK(source.attempts({2, 4}) == 1);
    CHECK(store->statistics().demand_bytes == 100); // of 6 only
    check_accounts(store->statistics());
}

TEST_CASE("nothing is loaded ahead while a demand load runs; the layer's own demand drops what waits") {
    fake_slab_source source;
    const auto store = make_store(source, 16);
    source.set_gate(false);
    auto first = store->acquire(1, std::array{0});
    REQUIRE(first);
    REQUIRE(eventually([&] { return source.attempts({1, 0}) == 1; }));
    store->hint(2, likely);
    std::this_thread::sleep_for(std::chrono::milliseconds(10)); // the second loader is free
    CHECK(source.attempts({2, 4}) + source.attempts({2, 5}) == 0);
    CHECK(store->statistics().hints_waiting == 2);
    auto second = store->acquire(2, std::array{4, 9});
    REQUIRE(second);
    CHECK(store->statistics().hints.cancelled == 2);
    source.set_gate(true);
    REQUIRE(wait_all(*first));
    REQUIRE(wait_all(*second));
    CHECK(store->statistics().prefetch_loads == 0);
    CHECK(source.attempts({2, 4}) == 1);
    CHECK(source.attempts({2, 5}) == 0);
    check_accounts(store->statistics());
}

TEST_CASE("what waited for a demand load is loaded when that has ended, one at a time") {
    fake_slab_source source;
    const auto store = make_store(source, 16);
    source.set_gate(false);
    auto first = store->acquire(1, std::array{0});
    REQUIRE(first);
    REQUIRE(eventually([&] { return source.attempts({1, 0}) == 1; }));
    store->hint(2, likely);
    source.set_gate(true);
    REQUIRE(eventually([&] { return store->statistics().resident == 3; }));
    visit(*store, 2, {4, 5}); // off probation
    source.set_gate(false);
    store->hint(3, likely);
    REQUIRE(eventually([&] { return source.attempts({3, 4}) == 1; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(source.attempts({3, 5}) == 0);
    // A demand load does not queue behind it: the other loader takes it.
    auto second = store->acquire(3, std::array{7});
    REQUIRE(second);
    REQUIRE(eventually([&] { return source.attempts({3, 7}) == 1; }));
    source.set_gate(true);
    REQUIRE(wait_all(*second));
    check_accounts(store->statistics());
}

TEST_CASE("warm experts never leave for a hint, cold ones do") {
    fake_slab_source source;
    const auto store = make_store(source, 6); // the floor: two experts in each of three layers
    for (std::int32_t layer = 1; layer < 4; ++layer)
        visit(*store, layer, {0, 1});
    store->hint(1, likely); // all six were used in this pass
    REQUIRE(settled(*store));
    CHECK(store->statistics().prefetch_loads == 0);
    CHECK(store->statistics().hints.refused == 2);

    for (int pass = 0; pass < 2; ++pass)
        for (std::int32_t layer = 2; layer < 4; ++layer)
            visit(*store, layer, {0, 1}); // layer 1 turns cold
    store->hint(1, likely);
    REQUIRE(eventually([&] { return source.attempts({1, 4}) == 1; }));
    REQUIRE(eventually([&] { return store->statistics().resident == 6; }));
    // An eighth of six slots, at least one: the second hint finds no room on probation.
    CHECK(store->statistics().prefetch_loads == 1);
    for (std::int32_t layer = 2; layer < 4; ++layer)
        CHECK(source.shows(store->table(layer)[0], {layer, 0}));
    check_accounts(store->statistics());
}

TEST_CASE("below the floor nobody leaves for a hint") {
    fake_slab_source source;
    const auto store = make_store(source, 4);
    REQUIRE(store->statistics().bypass);
    visit(*store, 1, {0, 1});
    visit(*store, 2, {0, 1});
    for (int pass = 0; pass < 5; ++pass)
        visit(*store, 2, {0, 1});
    store->hint(1, likely);
    REQUIRE(settled(*store));
    CHECK(store->statistics().prefetch_loads == 0);
    CHECK(source.shows(store->table(1)[0], {1, 0}));
}

TEST_CASE("a wrong hint is the first to leave, and counts as wasted") {
    fake_slab_source source;
    const auto store = make_store(source, 6);
    store->hint(1, std::array{expert_hint{9, 0.9F}});
    REQUIRE(eventually([&] { return store->statistics().resident == 1; }));
    visit(*store, 1, {0, 1});
    visit(*store, 2, {0, 1});
    visit(*store, 3, {0});
    CHECK(store->statistics().prefetch_wasted == 0);
    visit(*store, 3, {2}); // full: somebody must leave
    CHECK(store->statistics().prefetch_wasted == 1);
    CHECK(store->table(1)[9].address == 0);
    CHECK(source.shows(store->table(1)[0], {1, 0}));
    check_accounts(store->statistics());
}

TEST_CASE("a speculative read that fails is tried once, heard by nobody, and works on demand") {
    fake_slab_source source;
    const auto store = make_store(source, 16);
    source.fail_next({2, 4}, 1);
    store->hint(2, std::array{expert_hint{4, 0.9F}});
    REQUIRE(eventually([&] { return store->statistics().prefetch_wasted == 1; }));
    CHECK(store->statistics().load_failures == 0);
    CHECK(store->statistics().load_retries == 0);
    CHECK(store->table(2)[4].address == 0);
    visit(*store, 2, {4});
    CHECK(source.shows(store->table(2)[4], {2, 4}));
    check_accounts(store->statistics());
}

TEST_CASE("a speculative read that a wave has joined is tried again as any other, and its failure is heard") {
    for (const int failures : {static_cast<int>(load_attempts_max) - 1, static_cast<int>(load_attempts_max)}) {
        fake_slab_source source;
        const auto store = make_store(source, 16);
        source.set_gate(false);
        source.fail_next({2, 4}, failures);
        store->hint(2, std::array{expert_hint{4, 0.9F}});
        REQUIRE(eventually([&] { return source.attempts({2, 4}) == 1; }));
        auto lease = store->acquire(2, std::array{4});
        REQUIRE(lease);
        source.set_gate(true);
        const auto waited = wait_all(*lease);
        CHECK(waited.has_value() == (failures < static_cast<int>(load_attempts_max)));
        if (!waited)
            CHECK(waited.error().code == errc::io_error);
        CHECK(source.attempts({2, 4}) == static_cast<int>(load_attempts_max));
        check_accounts(store->statistics());
    }
}

TEST_CASE("a wave that needs every slot waits for the one speculative read that runs, and for no hint") {
    fake_slab_source source;
    const auto store = make_store(source, 6);
    source.set_gate(false);
    store->hint(2, likely);
    REQUIRE(eventually([&] { return source.attempts({2, 4}) == 1; }));
    std::atomic<bool> done{false};
    std::thread large([&] {
        auto lease = store->acquire(3, std::array{0, 1, 2, 3, 4, 5});
        done = lease && wait_all(*lease);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    source.set_gate(true);
    large.join();
    CHECK(done);
    CHECK(source.attempts({2, 5}) == 0);
    check_accounts(store->statistics());
}

TEST_CASE("auto loads nothing before it has measured, and then by gain and cost") {
    fake_slab_source source;
    source.set_delay(std::chrono::milliseconds(4)); // sleeping costs no processor
    const auto store = make_store(source, 16, prefetch_mode::automatic);
    store->hint(2, likely);
    REQUIRE(settled(*store));
    CHECK(store->statistics().prefetch_loads == 0);
    CHECK(store->hint_visits_wanted() == 0);
    CHECK(store->hint_visits_wanted() == 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(4)); // the lead
    visit(*store, 2, {0});                                     // and a stall
    CHECK(store->hint_visits_wanted() > 0);
    store->hint(3, std::array{expert_hint{4, 0.9F}, expert_hint{5, 0.0F}});
    REQUIRE(settled(*store));
    CHECK(store->statistics().prefetch_loads == 1);
    CHECK(source.attempts({3, 5}) == 0);
    check_accounts(store->statistics());
}

TEST_CASE("when everything is resident no hint is wanted") {
    fake_slab_source source;
    const auto store = make_store(source, 48);
    for (std::int32_t layer = 1; layer < 4; ++layer)
        for (std::int32_t expert = 0; expert < 16; ++expert)
            visit(*store, layer, {expert});
    CHECK(store->hint_visits_wanted() == 0);
}

TEST_CASE("destroying a store with hints waiting and running waits for the read that runs") {
    fake_slab_source source;
    source.set_delay(std::chrono::milliseconds(10));
    auto store = make_store(source, 16);
    store->hint(2, likely);
    REQUIRE(eventually([&] { return source.attempts({2, 4}) == 1; }));
    store.reset();
    CHECK(source.attempts({2, 4}) == 1);
    CHECK(source.attempts({2, 5}) == 0);
}

TEST_CASE("random hints, waves, failures and resizes: leases are complete and true, and the accounts add up") {
    for (const auto mode : {prefetch_mode::always, prefetch_mode::automatic}) {
        fake_slab_source source;
        const auto store = make_store(source, 16, mode);
        std::mt19937 random(mode == prefetch_mode::always ? 21 : 22);
        const auto pick = [&](std::uint32_t bound) { return static_cast<std::int32_t>(random() % bound); };
        std::uint64_t acquired = 0;
        for (int round = 0; round < 1500; ++round) {
            const std::int32_t layer = 1 + round % 3, first = pick(16);
            std::vector<std::int32_t> wave{first};
            if (pick(2) == 0)
                wave.push_back((first + 5) % 16);
            if (pick(20) == 0)
                source.fail_next({layer, first}, 1 + pick(2), errc::corrupt_file);
            auto lease = store->acquire(layer, wave);
            REQUIRE(lease);
            acquired += wave.size();
            // Right half of the time.
            std::vector<expert_hint> hint;
            for (std::int32_t index = 0; index < pick(6); ++index)
                hint.push_back({(first + 1 + index) % 16, 0.5F});
            store->hint(1 + (layer % 3), hint);
            for (expert_hint& each : hint)
                each.expert = (each.expert + 3) % 16;
            if (pick(2) == 0) // two visits ahead, and now and then not what comes
                store->hint(1 + ((layer + (pick(4) == 0 ? 0 : 1)) % 3), hint, 2);
            if (pick(8) != 0) {
                if (const auto waited = wait_all(*lease); waited)
                    for (const std::int32_t expert : wave) {
                        REQUIRE(source.shows(store->table(layer)[expert], {layer, expert}));
                        REQUIRE(store->table(layer)[expert].generation == lease->generation(expert));
                    }
                else
                    REQUIRE(waited.error().code == errc::corrupt_file);
            }
            *lease = expert_lease();
            if (pick(3) == 0)
                std::this_thread::sleep_for(std::chrono::microseconds(60));
            if (pick(60) == 0)
                REQUIRE(store->resize(static_cast<std::uint64_t>(2 + pick(20)) * source.slab_bytes()));
            const auto now = store->statistics();
            REQUIRE(now.resident <= now.slots);
            REQUIRE(now.hits + now.demand_loads == acquired);
            REQUIRE(now.hints.given ==
                    now.hints.refused + now.hints.cancelled + now.hints_waiting + now.prefetch_loads);
            REQUIRE(now.prefetch_loads == now.prefetch_useful + now.prefetch_wasted + now.prefetch_open);
        }
        if (mode == prefetch_mode::always) {
            CHECK(store->statistics().prefetch_useful > 5);
            CHECK(store->statistics().prefetch_wasted > 5);
        }
    }
}
