#include "core/execute/compute_pool.hpp"

#include <atomic>
#include <chrono>
#include <cstring>
#include <doctest/doctest.h>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

using namespace moira;

namespace {

struct visit {
    std::atomic<std::uint32_t> calls{0};
    std::atomic<std::uint32_t> ranks_seen{0}; // a bit per rank
    std::atomic<std::uint32_t> size{0};
    std::thread::id caller;
    std::atomic<bool> caller_is_rank_0{false};
};

void record_visit(void* argument, const moira_team_member* member) {
    visit& seen = *static_cast<visit*>(argument);
    ++seen.calls;
    seen.ranks_seen |= 1u << member->rank;
    seen.size = member->size;
    if (member->rank == 0)
        seen.caller_is_rank_0 = std::this_thread::get_id() == seen.caller;
}

/// Plain memory that members hand to each other, ordered by barriers alone: a thread sanitizer checks the barrier here.
struct relay {
    std::vector<std::uint64_t> cells;
    std::uint32_t rounds = 0;
    std::atomic<std::uint32_t> wrong{0};
};

void pass_on(void* argument, const moira_team_member* member) {
    relay& race = *static_cast<relay*>(argument);
    for (std::uint32_t round = 0; round < race.rounds; ++round) {
        race.cells[member->rank] = round + 1;
        compute_pool::barrier(*member);
        if (race.cells[(member->rank + 1) % member->size] != round + 1)
            ++race.wrong;
        compute_pool::barrier(*member);
    }
}

} // namespace

TEST_CASE("a task runs once on each member, the caller being member 0") {
    for (std::uint32_t threads = 1; threads <= 4; ++threads) {
        compute_pool pool({threads, 200});
        REQUIRE(pool.size() == threads);
        visit seen;
        seen.caller = std::this_thread::get_id();
        pool.run(0, record_visit, &seen);
        CHECK(seen.calls == threads);
        CHECK(seen.ranks_seen == (1u << threads) - 1);
        CHECK(seen.size == threads);
        CHECK(seen.caller_is_rank_0);
    }
}

TEST_CASE("team_size_max limits the team") {
    compute_pool pool({3, 0});
    for (const auto& [asked, given] : {std::pair{1u, 1u}, {2u, 2u}, {3u, 3u}, {9u, 3u}, {0u, 3u}}) {
        visit seen;
        pool.run(asked, record_visit, &seen);
        CHECK(seen.calls == given);
        CHECK(seen.size == given);
    }
}

TEST_CASE("no thread count given means the cores that this process may use") {
    compute_pool pool({});
    CHECK(pool.size() == read_device_facts().cpu_cores);
}

TEST_CASE("many short tasks all run, with members that spin and with members that park") {
    for (const std::uint32_t spin_us_max : {0u, 200u}) {
        compute_pool pool({3, spin_us_max});
        visit seen;
        for (int i = 0; i < 2000; ++i)
            pool.run(1 + i % 3, record_visit, &seen);
        CHECK(seen.calls == 666 * 6 + 1 + 2); // 2000 tasks of 1, 2, 3 members in turn
    }
}

TEST_CASE("members that have parked wake for the next task") {
    compute_pool pool({2, 50});
    visit seen;
    for (int i = 0; i < 5; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        pool.run(0, record_visit, &seen);
    }
    CHECK(seen.calls == 10);
}

TEST_CASE("a barrier orders plain memory between members, with more members than cores too") {
    for (std::uint32_t threads = 1; threads <= 5; ++threads) {
        compute_pool pool({threads, 50});
        relay race;
        race.cells.resize(threads);
        race.rounds = 300;
        pool.run(0, pass_on, &race);
        pool.run(0, pass_on, &race);
        CHECK(race.wrong == 0);
    }
}

TEST_CASE("barriers get through beside busy neighbours") {
    std::atomic<bool> stop{false};
    std::vector<std::thread> neighbours;
    for (std::uint32_t i = 0; i < read_device_facts().cpu_cores; ++i)
        neighbours.emplace_back([&] {
            while (!stop)
                std::atomic_signal_fence(std::memory_order_seq_cst);
        });
    compute_pool pool({2, 200});
    relay race;
    race.cells.resize(2);
    race.rounds = 50;
    pool.run(0, pass_on, &race);
    stop = true;
    for (auto& neighbour : neighbours)
        neighbour.join();
    CHECK(race.wrong == 0);
}

TEST_CASE("a caller whose team keeps it waiting works alone for a while, if asked to, then tries again") {
    const auto slow_member = [](void*, const moira_team_member* member) {
        if (member->rank != 0)
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
    };
    for (const bool shrinks : {false, true}) {
        // Members spin longer than this test takes: none may be excused for having parked.
        compute_pool pool({2, 60'000'000, shrinks});
        bool worked_alone = false;
        for (int attempt = 0; attempt < 5 && !worked_alone; ++attempt) {
            pool.run(0, slow_member, nullptr); // the first is not judged
            pool.run(0, slow_member, nullptr);
            visit seen;
            pool.run(0, record_visit, &seen);
            worked_alone = seen.size == 1;
            if (!shrinks)
                break;
        }
        CHECK(worked_alone == shrinks);
        visit seen;
        while (seen.size != 2) // ends: the pause is at most 32 times what was waited
            pool.run(0, record_visit, &seen);
    }
}

TEST_CASE("a nested run stays on its caller, as a team of one whose barrier passes") {
    compute_pool pool({2, 50});
    struct nest {
        compute_pool& pool;
        std::atomic<std::uint32_t> inner_calls{0};
        std::atomic<std::uint32_t> inner_alone{0};
    } nested{pool, {}, {}};
    pool.run(
        0,
        [](void* argument, const moira_team_member*) {
            auto& outer = *static_cast<nest*>(argument);
            outer.pool.run(
                0,
                [](void* inner, const moira_team_member* member) {
                    auto& counted = *static_cast<nest*>(inner);
                    ++counted.inner_calls;
                    counted.inner_alone += member->size == 1 && member->rank == 0 ? 1 : 0;
                    compute_pool::barrier(*member);
                },
                &outer);
        },
        &nested);
    CHECK(nested.inner_calls == 2);
    CHECK(nested.inner_alone == 2);
}

TEST_CASE("concurrent callers take turns and nobody's task is lost") {
    compute_pool pool({2, 50});
    struct shared_count {
        std::uint64_t by_rank[2] = {0, 0}; // plain: tasks may not overlap
    } count;
    constexpr int callers = 3;
    constexpr int tasks = 200;
    std::vector<std::thread> threads;
    for (int i = 0; i < callers; ++i)
        threads.emplace_back([&] {
            for (int task = 0; task < tasks; ++task)
                pool.run(
                    2,
                    [](void* argument, const moira_team_member* member) {
                        ++static_cast<shared_count*>(argument)->by_rank[member->rank];
                    },
                    &count);
        });
    for (auto& thread : threads)
        thread.join();
    CHECK(count.by_rank[0] == callers * tasks);
    CHECK(count.by_rank[1] == callers * tasks);
}

TEST_CASE("a pool that never ran a task, or has just run one, ends cleanly") {
    for (int i = 0; i < 20; ++i) {
        compute_pool pool({3, i % 2 == 0 ? 0u : 100u});
        visit seen;
        if (i % 3 != 0)
            pool.run(0, record_visit, &seen);
    }
}

TEST_CASE("the host table runs teams, with barriers, and says its size") {
    compute_pool pool({2, 50});
    const plugin_host_services services(pool);
    const moira_host& host = services.table();
    CHECK(host.struct_size == sizeof(moira_host));
    CHECK(host.abi_major == MOIRA_ABI_MAJOR);
    CHECK(host.abi_minor == MOIRA_ABI_MINOR);
    CHECK(host.team_size(host.context) == 2);
    struct task {
        const moira_host& host;
        std::uint32_t cells[2] = {0, 0};
        std::atomic<std::uint32_t> right{0};
    } work{host, {}, {}};
    host.run_team(
        host.context, 0,
        [](void* argument, const moira_team_member* member) {
            auto& mine = *static_cast<task*>(argument);
            mine.cells[member->rank] = member->rank + 7;
            mine.host.team_barrier(mine.host.context, member);
            mine.right += mine.cells[1 - member->rank] == 1 - member->rank + 7 ? 1 : 0;
        },
        &work);
    CHECK(work.right == 2);
}

TEST_CASE("host memory is aligned as asked, and nonsense gets none") {
    compute_pool pool({1, 0});
    const plugin_host_services services(pool);
    const moira_host& host = services.table();
    for (const std::uint64_t alignment : {0ull, 1ull, 64ull, 4096ull}) {
        void* address = host.allocate(host.context, 1000, alignment);
        REQUIRE(address != nullptr);
        CHECK(reinterpret_cast<std::uintptr_t>(address) % std::max<std::uint64_t>(alignment, 64) == 0);
        std::memset(address, 1, 1000);
        host.release(host.context, address);
    }
    void* empty = host.allocate(host.context, 0, 64);
    CHECK(empty != nullptr);
    host.release(host.context, empty);
    host.release(host.context, nullptr);
    CHECK(host.allocate(host.context, 64, 96) == nullptr);
    CHECK(host.allocate(host.context, UINT64_MAX, 64) == nullptr);
}

TEST_CASE("plugin messages reach the host's log") {
    compute_pool pool({1, 0});
    std::vector<std::pair<log_level, std::string>> lines;
    const plugin_host_services services(
        pool, [&](log_level level, const std::string& message) { lines.emplace_back(level, message); });
    const moira_host& host = services.table();
    host.log(host.context, MOIRA_LOG_WARNING, "slow path");
    host.log(host.context, MOIRA_LOG_INFO, nullptr);
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] == std::pair<log_level, std::string>(log_level::warning, "slow path"));

    const plugin_host_services silent(pool);
    silent.table().log(silent.table().context, MOIRA_LOG_ERROR, "nobody listens");
}
