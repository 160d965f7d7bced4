#include "core/route/route_board.hpp"

#include <atomic>
#include <deque>
#include <doctest/doctest.h>
#include <random>
#include <thread>

using namespace moira;

namespace {

/// Larger than a word, so that a torn copy would show.
struct marked {
    std::uint64_t number = 0;
    std::array<std::uint32_t, 21> copies{};
};

marked make(std::uint64_t number) {
    marked made{number, {}};
    made.copies.fill(static_cast<std::uint32_t>(number * 2654435761U));
    return made;
}

bool whole(const marked& value) {
    const auto expected = make(value.number);
    return value.copies == expected.copies;
}

} // namespace

TEST_CASE("what is pushed comes out in order, and an empty ring says so") {
    route_ring<marked> ring(4);
    CHECK_FALSE(ring.pop());
    for (const std::uint64_t number : {1, 2, 3})
        ring.push(make(number));
    for (const std::uint64_t number : {1, 2, 3}) {
        const auto value = ring.pop();
        REQUIRE(value);
        CHECK(value->number == number);
        CHECK(whole(*value));
    }
    CHECK_FALSE(ring.pop());
    CHECK(ring.dropped() == 0);
    CHECK(route_ring<marked>(0).capacity() == 1);
}

TEST_CASE("random pushes and pops behave as a queue that loses its oldest") {
    std::mt19937 random(11);
    for (const std::size_t capacity : {1U, 2U, 7U, 64U}) {
        route_ring<marked> ring(capacity);
        std::deque<std::uint64_t> expected;
        std::uint64_t next = 0, popped = 0;
        for (int turn = 0; turn < 5'000; ++turn) {
            for (auto pushes = random() % (2 * capacity + 1); pushes > 0; --pushes) {
                ring.push(make(next));
                expected.push_back(next++);
                if (expected.size() > capacity)
                    expected.pop_front();
            }
            for (auto pops = random() % (capacity + 2); pops > 0; --pops) {
                const auto value = ring.pop();
                REQUIRE(value.has_value() == !expected.empty());
                if (!value)
                    continue;
                REQUIRE(whole(*value));
                REQUIRE(value->number == expected.front());
                expected.pop_front();
                ++popped;
            }
        }
        while (ring.pop())
            ++popped;
        CHECK(ring.dropped() > 0);
        CHECK(popped + ring.dropped() == ring.pushed());
    }
}

TEST_CASE("a producer that laps its consumer costs values and never a torn one") {
    constexpr std::uint64_t count = 100'000;
    route_ring<marked> ring(16);
    std::atomic<bool> over{false};
    std::thread producer([&] {
        for (std::uint64_t number = 0; number < count; ++number)
            ring.push(make(number));
        over = true;
    });
    std::uint64_t popped = 0, last = 0;
    bool in_order = true, complete = true;
    while (true) {
        const bool ended = over; // before the last look
        if (const auto value = ring.pop()) {
            complete = complete && whole(*value);
            in_order = in_order && (popped == 0 || value->number > last);
            last = value->number;
            ++popped;
        } else if (ended) {
            break;
        }
    }
    producer.join();
    CHECK(in_order);
    CHECK(complete);
    CHECK(last == count - 1); // the newest is never lost
    CHECK(popped + ring.dropped() == count);
}

TEST_CASE("a listener that is told once per announcement hears of everything") {
    route_board board(2, 1, 8);
    std::atomic<std::uint64_t> told{0};
    constexpr std::uint64_t steps = 20'000;
    std::thread producer([&] {
        for (std::uint64_t step = 0; step < steps; ++step) {
            route_observation seen;
            seen.top_k = 1;
            seen.mark(route_source::early);
            board.ring().push(seen);
            if (board.announce())
                ++told;
        }
        ++told; // the end
    });
    route_calibration known(2, 1);
    std::uint64_t looked = 0;
    const auto heard = [&] {
        const auto report = board.report();
        return report.of(route_source::early).rows + report.dropped;
    };
    while (heard() < steps) {
        if (looked == told) {
            std::this_thread::yield();
            continue;
        }
        ++looked;
        board.learn(known);
    }
    producer.join();
    CHECK(heard() == steps);
    CHECK(looked <= steps + 1);
}
