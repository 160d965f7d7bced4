#include "core/execute/run_delay.hpp"

#include "core/execute/compute_pool.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <pthread.h>
#include <sched.h>
#include <thread>
#include <vector>

using namespace moira;

namespace {

/// Keeps the calling thread on the first processor that it may use.
void stay_on_first_processor() {
    cpu_set_t allowed;
    CHECK(pthread_getaffinity_np(pthread_self(), sizeof allowed, &allowed) == 0);
    cpu_set_t first;
    CPU_ZERO(&first);
    for (int processor = 0; processor < CPU_SETSIZE && CPU_COUNT(&first) == 0; ++processor)
        if (CPU_ISSET(processor, &allowed))
            CPU_SET(processor, &first);
    CHECK(pthread_setaffinity_np(pthread_self(), sizeof first, &first) == 0);
}

/// Threads that never leave the processor of the thread that made them.
class busy_neighbours {
public:
    explicit busy_neighbours(int count) {
        for (int i = 0; i < count; ++i)
            threads_.emplace_back([this] {
                while (!stop_) {
                }
            });
    }
    ~busy_neighbours() {
        stop_ = true;
        for (auto& thread : threads_)
            thread.join();
    }
    busy_neighbours(const busy_neighbours&) = delete;
    busy_neighbours& operator=(const busy_neighbours&) = delete;

private:
    std::atomic<bool> stop_{false};
    std::vector<std::thread> threads_;
};

bool delays_are_told() {
    if (thread_run_delay().count() != 0)
        return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1)); // whoever is woken has waited a little
    if (thread_run_delay().count() != 0)
        return true;
    MESSAGE("skipped: this system does not tell run delays");
    return false;
}

} // namespace

TEST_CASE("a thread that shares its processor with another one has waited for it") {
    if (!delays_are_told())
        return;
    std::chrono::nanoseconds gained{};
    std::thread([&gained] {
        stay_on_first_processor();
        const auto before = thread_run_delay();
        const busy_neighbours neighbour(1);
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (gained < std::chrono::milliseconds(1) && std::chrono::steady_clock::now() < end)
            gained = thread_run_delay() - before;
    }).join();
    CHECK(gained >= std::chrono::milliseconds(1));
}

TEST_CASE("a caller that a neighbour keeps from its processor works alone for a while") {
    if (!delays_are_told())
        return;
    // Three neighbours on the caller's processor take three quarters of its time; 60 ms are several time slices.
    const auto work = [](void*, const moira_team_member* member) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(60);
        while (member->rank == 0 && std::chrono::steady_clock::now() < end) {
        }
    };
    bool worked_alone = false;
    std::thread([&] {
        compute_pool pool({2, 60'000'000, true}); // its member is free to run elsewhere, and never parks
        stay_on_first_processor();
        const busy_neighbours neighbours(3);
        for (int attempt = 0; attempt < 20 && !worked_alone; ++attempt) {
            pool.run(0, work, nullptr); // the first is not judged
            pool.run(
                0,
                [](void* alone, const moira_team_member* member) {
                    if (member->rank == 0)
                        *static_cast<bool*>(alone) = member->size == 1;
                },
                &worked_alone);
        }
    }).join();
    CHECK(worked_alone);
}
