#include "core/experts/expert_store.hpp"
#include "core/experts/transfer_queue.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <array>
#include <doctest/doctest.h>

using namespace moira;

namespace {

std::unique_ptr<expert_store> make_store(slab_source& source, std::uint64_t slots, std::uint32_t loader_threads = 1) {
    auto options = small_store(source, slots);
    options.loader_threads = loader_threads;
    auto store = expert_store::create(options, source, nullptr);
    REQUIRE(store);
    return std::move(*store);
}

} // namespace

TEST_CASE("a hiccup is retried and never seen") {
    fake_slab_source source;
    const auto store = make_store(source, 8);
    source.fail_next({1, 4}, load_attempts_max - 1);
    auto lease = store->acquire(1, std::array{4, 5});
    REQUIRE(lease);
    REQUIRE(wait_all(*lease));
    CHECK(source.shows(store->table(1)[4], {1, 4}));
    CHECK(source.attempts({1, 4}) == static_cast<int>(load_attempts_max));
    CHECK(store->statistics().load_retries == load_attempts_max - 1);
    CHECK(store->statistics().load_failures == 0);
}

TEST_CASE("a load that fails for good is reported, frees its slot, and works again later") {
    for (const std::uint32_t loader_threads : {0U, 1U}) {
        fake_slab_source source;
        const auto store = make_store(source, 2, loader_threads);
        source.fail_next({1, 4}, load_attempts_max);
        auto lease = store->acquire(1, std::array{5, 4});
        REQUIRE(lease);
        for (int repeat = 0; repeat < 2; ++repeat) {
            const auto waited = wait_all(*lease);
            REQUIRE_FALSE(waited);
            CHECK(waited.error().code == errc::io_error);
        }
        CHECK(store->table(1)[4].address == 0);
        CHECK(source.shows(store->table(1)[5], {1, 5}));
        CHECK(store->statistics().load_failures == 1);
        CHECK(store->statistics().load_retries == load_attempts_max - 1);
        CHECK(store->statistics().resident == 1);

        auto again = store->acquire(1, std::array{4}); // takes the free slot while the failed wave is still held
        REQUIRE(again);
        REQUIRE(wait_all(*again));
        *lease = expert_lease(); // must not end the pin of the new load in the same slot
        CHECK(source.shows(store->table(1)[4], {1, 4}));
        auto more = store->acquire(2, std::array{0});
        REQUIRE(more);
        REQUIRE(wait_all(*more));
        CHECK(source.shows(store->table(1)[4], {1, 4}));
        CHECK(store->table(1)[5].address == 0);
    }
}

TEST_CASE("only reads are retried; exceptions of a source are errors") {
    fake_slab_source source;
    const auto store = make_store(source, 8);
    source.fail_next({1, 4}, 1, errc::corrupt_file);
    auto lease = store->acquire(1, std::array{4});
    REQUIRE(lease);
    auto waited = wait_all(*lease);
    REQUIRE_FALSE(waited);
    CHECK(waited.error().code == errc::corrupt_file);
    CHECK(source.attempts({1, 4}) == 1);

    source.throw_always(true);
    auto thrown = store->acquire(1, std::array{6});
    REQUIRE(thrown);
    waited = wait_all(*thrown);
    REQUIRE_FALSE(waited);
    CHECK(waited.error().code == errc::internal);
    source.throw_always(false);
    auto fine = store->acquire(1, std::array{4, 6});
    REQUIRE(fine);
    CHECK(wait_all(*fine));
}

TEST_CASE("every lease that waits for a failed load hears of it, others do not") {
    fake_slab_source source;
    const auto store = make_store(source, 8);
    source.set_gate(false);
    source.fail_next({1, 4}, load_attempts_max);
    auto first = store->acquire(1, std::array{4, 7});
    auto second = store->acquire(1, std::array{4});
    auto third = store->acquire(1, std::array{7});
    REQUIRE(first);
    REQUIRE(second);
    REQUIRE(third);
    CHECK(second->missing().size() == 1);
    source.set_gate(true);
    const auto heard_first = wait_all(*first), heard_second = wait_all(*second);
    REQUIRE_FALSE(heard_first);
    REQUIRE_FALSE(heard_second);
    CHECK(heard_first.error().code == errc::io_error);
    CHECK(heard_second.error().code == errc::io_error);
    CHECK(wait_all(*third));
    CHECK(source.attempts({1, 4}) == static_cast<int>(load_attempts_max));
    CHECK(source.attempts({1, 7}) == 1);
    CHECK(store->statistics().load_failures == 1);
}

TEST_CASE("an entry shows nothing while its slab is being written, and a wave dropped in mid-load is no loss") {
    fake_slab_source source;
    const auto store = make_store(source, 2);
    source.set_gate(false);
    {
        auto lease = store->acquire(1, std::array{4, 5});
        REQUIRE(lease);
        CHECK(store->table(1)[4].address == 0);
        while (source.attempts({1, 4}) == 0)
            std::this_thread::yield();
    } // 4 is being read, 5 was not begun
    CHECK(store->table(1)[4].address == 0);
    source.set_gate(true);
    auto lease = store->acquire(1, std::array{4, 6});
    REQUIRE(lease);
    REQUIRE(wait_all(*lease));
    CHECK(source.shows(store->table(1)[4], {1, 4}));
    CHECK(source.attempts({1, 4}) == 1);
    CHECK(source.attempts({1, 5}) == 0);
}

TEST_CASE("destroying a store waits for the load that runs") {
    fake_slab_source source;
    source.set_delay(std::chrono::milliseconds(20));
    auto store = make_store(source, 4);
    {
        auto lease = store->acquire(1, std::array{4});
        REQUIRE(lease);
        while (source.attempts({1, 4}) == 0)
            std::this_thread::yield();
    }
    store.reset();
    CHECK(source.attempts({1, 4}) == 1);
}

TEST_CASE("time spent waiting for loads is measured") {
    fake_slab_source source;
    source.set_delay(std::chrono::milliseconds(10));
    const auto store = make_store(source, 8);
    auto lease = store->acquire(1, std::array{4});
    REQUIRE(lease);
    REQUIRE(wait_all(*lease));
    CHECK(store->statistics().stall_s >= 0.005);
    CHECK(store->statistics().stall_s < 5.0);
}
