#include "core/experts/expert_store.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <doctest/doctest.h>

using namespace moira;

namespace {

std::unique_ptr<expert_store> make_store(slab_source& source, std::uint64_t slots, std::uint32_t loader_threads) {
    auto options = small_store(source, slots);
    options.loader_threads = loader_threads;
    auto store = expert_store::create(options, source, nullptr);
    REQUIRE(store);
    return std::move(*store);
}

class random_numbers {
public:
    explicit random_numbers(std::uint64_t seed) : state_(seed * 2654435761ULL + 1) {}
    std::int32_t below(std::uint64_t bound) {
        state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
        return static_cast<std::int32_t>((state_ >> 33) % bound);
    }

private:
    std::uint64_t state_;
};

std::vector<std::int32_t> random_wave(random_numbers& random, std::int32_t experts_max) {
    std::vector<std::int32_t> wave(16);
    for (std::int32_t expert = 0; expert < 16; ++expert)
        wave[static_cast<std::size_t>(expert)] = expert;
    for (std::size_t index = 0; index < 8; ++index)
        std::swap(wave[index], wave[index + static_cast<std::size_t>(random.below(16 - index))]);
    wave.resize(static_cast<std::size_t>(1 + random.below(static_cast<std::uint64_t>(experts_max))));
    return wave;
}

} // namespace

TEST_CASE("acquirers that together exceed the slots take turns, and each sees only its own complete slabs") {
    fake_slab_source source;
    const auto store = make_store(source, 6, 2);
    std::atomic<int> wrong{0};
    std::atomic<std::uint64_t> acquired{0};
    std::vector<std::thread> threads;
    for (std::uint64_t seed = 0; seed < 4; ++seed)
        threads.emplace_back([&, seed] {
            random_numbers random(seed);
            for (int round = 0; round < 300; ++round) {
                const std::int32_t layer = 1 + random.below(3);
                const auto wave = random_wave(random, 6);
                auto lease = store->acquire(layer, wave);
                if (!lease || !wait_all(*lease)) {
                    ++wrong;
                    continue;
                }
                for (const std::int32_t expert : wave) {
                    const moira_expert_entry& entry = store->table(layer)[expert];
                    wrong += !source.shows(entry, {layer, expert});
                    wrong += entry.generation != lease->generation(expert);
                }
                acquired += wave.size();
            }
        });
    for (std::thread& thread : threads)
        thread.join();
    CHECK(wrong == 0);
    const auto counted = store->statistics();
    CHECK(counted.hits + counted.demand_loads == acquired);
    CHECK(counted.waves == 1200);
}

TEST_CASE("resizes, failures, dropped waves and statistics from other threads disturb nobody") {
    fake_slab_source source;
    const auto store = make_store(source, 8, 2);
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0}, good{0};
    std::thread resizer([&] {
        random_numbers random(99);
        while (!stop) {
            if (!store->resize(static_cast<std::uint64_t>(4 + random.below(20)) * source.slab_bytes()))
                ++wrong;
            const auto counted = store->statistics();
            wrong += counted.hits > counted.hits + counted.demand_loads;
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    });
    std::thread saboteur([&] {
        random_numbers random(7);
        while (!stop) {
            source.fail_next({1 + random.below(3), random.below(16)}, 1 + random.below(2), errc::corrupt_file);
            std::this_thread::sleep_for(std::chrono::microseconds(500));
        }
    });
    std::vector<std::thread> threads;
    for (std::uint64_t seed = 0; seed < 3; ++seed)
        threads.emplace_back([&, seed] {
            random_numbers random(seed);
            for (int round = 0; round < 300; ++round) {
                const std::int32_t layer = 1 + random.below(3);
                const auto wave = random_wave(random, 4);
                auto lease = store->acquire(layer, wave);
                wrong += !lease;
                if (!lease || random.below(8) == 0)
                    continue; // dropped without waiting
                if (auto waited = wait_all(*lease); !waited) {
                    wrong += waited.error().code != errc::corrupt_file;
                    continue;
                }
                ++good;
                for (const std::int32_t expert : wave)
                    wrong += !source.shows(store->table(layer)[expert], {layer, expert});
            }
        });
    for (std::thread& thread : threads)
        thread.join();
    stop = true;
    resizer.join();
    saboteur.join();
    CHECK(wrong == 0);
    CHECK(good > 300);
}

TEST_CASE("hints, a policy that changes, resizes and failures from other threads disturb nobody") {
    fake_slab_source source;
    const auto store = make_store(source, 10, 2);
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0}, good{0};
    std::thread hinter([&] {
        random_numbers random(5);
        while (!stop) {
            std::vector<expert_hint> experts;
            for (const std::int32_t expert : random_wave(random, 6))
                experts.push_back({expert, 0.5F});
            store->hint(1 + random.below(3), experts);
            static_cast<void>(store->hint_visits_wanted());
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
    });
    std::thread operator_thread([&] {
        random_numbers random(99);
        while (!stop) {
            prefetch_policy policy;
            policy.mode = static_cast<prefetch_mode>(random.below(3));
            store->set_prefetch(policy);
            if (random.below(4) == 0 &&
                !store->resize(static_cast<std::uint64_t>(4 + random.below(20)) * source.slab_bytes()))
                ++wrong;
            source.fail_next({1 + random.below(3), random.below(16)}, 1, errc::corrupt_file);
            const auto now = store->statistics();
            wrong +=
                now.hints.given != now.hints.refused + now.hints.cancelled + now.hints_waiting + now.prefetch_loads;
            wrong += now.prefetch_loads != now.prefetch_useful + now.prefetch_wasted + now.prefetch_open;
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    });
    std::vector<std::thread> threads;
    for (std::uint64_t seed = 0; seed < 2; ++seed)
        threads.emplace_back([&, seed] {
            random_numbers random(seed);
            for (int round = 0; round < 400; ++round) {
                const std::int32_t layer = 1 + random.below(3);
                const auto wave = random_wave(random, 2);
                auto lease = store->acquire(layer, wave);
                wrong += !lease;
                if (!lease)
                    continue;
                if (auto waited = wait_all(*lease); !waited) {
                    wrong += waited.error().code != errc::corrupt_file;
                    continue;
                }
                ++good;
                for (const std::int32_t expert : wave) {
                    wrong += !source.shows(store->table(layer)[expert], {layer, expert});
                    wrong += store->table(layer)[expert].generation != lease->generation(expert);
                }
            }
        });
    for (std::thread& thread : threads)
        thread.join();
    stop = true;
    hinter.join();
    operator_thread.join();
    CHECK(wrong == 0);
    CHECK(good > 400);
}

TEST_CASE("a wave that must wait for another's pins gets its slots when they end; a later one does not overtake it") {
    fake_slab_source source;
    const auto store = make_store(source, 4, 1);
    auto held = store->acquire(1, std::array{0, 1, 2});
    REQUIRE(held);
    REQUIRE(wait_all(*held));
    std::atomic<int> order{0}, large_was{0}, small_was{0};
    std::thread large([&] {
        auto lease = store->acquire(2, std::array{0, 1, 2, 3});
        large_was = ++order;
        if (lease)
            (void)wait_all(*lease);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::thread small([&] {
        auto lease = store->acquire(3, std::array{5}); // would fit at once
        small_was = ++order;
        if (lease)
            (void)wait_all(*lease);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(order == 0);
    *held = expert_lease();
    large.join();
    small.join();
    CHECK(order == 2);
    CHECK(large_was == 1);
    CHECK(small_was == 2);
}

TEST_CASE("a waiting wave that a resize makes too large is refused, not forgotten") {
    fake_slab_source source;
    const auto store = make_store(source, 4, 1);
    auto held = store->acquire(1, std::array{0, 1});
    REQUIRE(held);
    REQUIRE(wait_all(*held));
    std::atomic<bool> refused{false};
    std::thread waiting([&] {
        const auto lease = store->acquire(2, std::array{0, 1, 2, 3});
        refused = !lease && lease.error().code == errc::invalid_argument;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    REQUIRE(store->resize(3 * source.slab_bytes()));
    waiting.join();
    CHECK(refused);
}

TEST_CASE("loads run side by side with the waiter's own: a loader thread and the waiter share two loads") {
    fake_slab_source source;
    source.set_gate(false);
    const auto store = make_store(source, 8, 1);
    auto lease = store->acquire(1, std::array{0, 1});
    REQUIRE(lease);
    std::atomic<bool> side_by_side{false};
    std::thread opener([&] {
        // Both must have begun although none has ended.
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (!side_by_side && std::chrono::steady_clock::now() < deadline) {
            side_by_side = source.attempts({1, 0}) + source.attempts({1, 1}) == 2;
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
        source.set_gate(true);
    });
    REQUIRE(wait_all(*lease));
    opener.join();
    CHECK(side_by_side);
    CHECK(store->statistics().demand_bytes == 200);
}
