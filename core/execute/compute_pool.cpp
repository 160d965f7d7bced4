#include "core/execute/compute_pool.hpp"

#include "core/execute/run_delay.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <mutex>
#include <pthread.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace moira {
namespace {

/// Members and flags that different threads write lie on lines of their own.
constexpr std::size_t cache_line_bytes = 64;

/// More members than any machine this runs on has cores: a bound for a setting gone wrong.
constexpr std::uint32_t threads_max = 1024;

/// About 15 us on Zen 4 and 40 us on Skylake: longer than members of one op usually drift apart.
constexpr int wait_pauses_max = 1000;

/// After the pauses somebody else probably holds the core: let it run, then sleep.
constexpr int wait_yields_max = 16;

/// After a team in which the caller waited longer than it worked, it works alone for twice as long as it waited; for
/// four times as long if the next try goes the same way, and so on up to 32 times, so that tries cost 3 % at most.
constexpr std::uint32_t bad_tries_max = 5;

using pool_clock = std::chrono::steady_clock;

/// A neighbour on one of the cores lets a team run well for a time slice (3 to 12 ms) and then stops it for one. After so
/// much work without a wait it has left.
constexpr auto good_work_wanted = std::chrono::milliseconds(100);

/// A task of this length may hold a time slice that the caller lost to a neighbour (the shortest are 3 ms, less what
/// was over of the last one); shorter ones are not worth the 5 us of asking.
constexpr auto long_task = std::chrono::milliseconds(1);

/// Between two looks at the clock.
constexpr int pauses_per_clock_read = 64;

void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

/// Waits until `word` is no longer `old`, for an event that is expected soon. Ends in a sleep, so that members that
/// wait never starve the one they wait for, however few cores there are. `crowded` is set while it does not spin.
/// Returns the time that it waited without spinning.
pool_clock::duration wait_briefly(const std::atomic<std::uint32_t>& word, std::uint32_t old,
                                  std::atomic<bool>& crowded) noexcept {
    for (int i = 0; i < wait_pauses_max; ++i) {
        if (word.load(std::memory_order_acquire) != old)
            return {};
        pause();
    }
    const auto begin = pool_clock::now();
    crowded.store(true, std::memory_order_relaxed);
    for (int i = 0; i < wait_yields_max && word.load(std::memory_order_acquire) == old; ++i)
        std::this_thread::yield();
    word.wait(old, std::memory_order_acquire);
    crowded.store(false, std::memory_order_relaxed);
    return pool_clock::now() - begin;
}

/// Waits for an event that may be far away: spins for `spin`, then parks.
void wait_for_work(const std::atomic<std::uint32_t>& word, std::uint32_t old, std::chrono::microseconds spin) noexcept {
    const auto end = std::chrono::steady_clock::now() + spin;
    do {
        for (int i = 0; i < pauses_per_clock_read; ++i) {
            if (word.load(std::memory_order_acquire) != old)
                return;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    word.wait(old, std::memory_order_acquire);
}

/// What moira_team_member.team points at. The phase is the barrier's sense: it changes when the last member arrives.
struct team {
    alignas(cache_line_bytes) std::atomic<std::uint32_t> arrived{0};
    alignas(cache_line_bytes) std::atomic<std::uint32_t> phase{0};
    std::atomic<bool> crowded{false};     // a hint: some member waits without spinning
    pool_clock::duration caller_waited{}; // without spinning, in the running task; the caller's own
};

/// Set while this thread executes a task of any pool: a nested run stays on this thread.
thread_local bool inside_task = false;

void execute(moira_team_function function, void* argument, std::uint32_t rank, std::uint32_t size, team* shared) {
    const moira_team_member member{rank, size, shared};
    const bool outer = inside_task;
    inside_task = true;
    function(argument, &member);
    inside_task = outer;
}

/// Blocks all signals while it lives: threads started meanwhile never run a handler, so that SIGTERM reaches the
/// threads that wait for it.
class signal_block {
public:
    signal_block() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~signal_block() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    signal_block(const signal_block&) = delete;
    signal_block& operator=(const signal_block&) = delete;

private:
    sigset_t before_{};
};

/// The mailbox of one thread. `assigned` counts the tasks that were given to it; only those wake it.
struct alignas(cache_line_bytes) seat {
    std::atomic<std::uint32_t> assigned{0};
};

} // namespace

struct compute_pool::impl {
    impl(std::uint32_t wanted, const options& given)
        : seats(wanted), spin(given.spin_us_max), shrinks(given.shrink_when_crowded) {}

    std::vector<seat> seats; // one per member; the caller's is never used
    std::vector<std::thread> threads;
    const std::chrono::microseconds spin;
    const bool shrinks;

    std::mutex turn; // one task at a time
    // The task: written by the caller before it assigns seats, not touched again until every member is done.
    moira_team_function function = nullptr; // null: end
    void* argument = nullptr;
    std::uint32_t team_size = 0;
    team shared;
    // For options.shrink_when_crowded.
    pool_clock::time_point alone_until{};
    pool_clock::time_point last_end{}; // of a task of a team
    std::chrono::nanoseconds run_delay{}; // of the caller when it was last asked
    std::uint32_t bad_tries = 0;
    pool_clock::duration good_work{}; // of teams, since the last bad one
    alignas(cache_line_bytes) std::atomic<std::uint32_t> running{0};

    void work(std::uint32_t rank) {
        std::uint32_t done = 0;
        for (;;) {
            wait_for_work(seats[rank].assigned, done, spin);
            ++done;
            if (!function)
                return;
            execute(function, argument, rank, team_size, &shared);
            if (running.fetch_sub(1, std::memory_order_seq_cst) != 1)
                continue;
            running.notify_all();
            // Whoever has stopped spinning may lack a core: spinning on here would keep it from the one it needs.
            if (shared.crowded.load(std::memory_order_relaxed))
                std::this_thread::yield();
        }
    }

    void assign(std::uint32_t rank) {
        seats[rank].assigned.fetch_add(1, std::memory_order_seq_cst);
        seats[rank].assigned.notify_one();
    }

    void run_team(std::uint32_t size, moira_team_function task, void* task_argument) {
        const std::scoped_lock lock(turn);
        const auto begin = shrinks ? pool_clock::now() : pool_clock::time_point{};
        if (shrinks && begin < alone_until)
            return execute(task, task_argument, 0, 1, nullptr);
        function = task;
        argument = task_argument;
        team_size = size;
        shared.caller_waited = {};
        running.store(size - 1, std::memory_order_relaxed);
        for (std::uint32_t rank = 1; rank < size; ++rank)
            assign(rank);
        execute(task, task_argument, 0, size, &shared);
        for (std::uint32_t left = running.load(std::memory_order_acquire); left != 0;
             left = running.load(std::memory_order_acquire))
            shared.caller_waited += wait_briefly(running, left, shared.crowded);
        if (shrinks)
            judge(begin);
    }

    /// What the caller waited for a processor since it was last asked. It may have been another thread then: such a
    /// difference says nothing.
    std::chrono::nanoseconds lost_since_asked() {
        const auto before = std::exchange(run_delay, thread_run_delay());
        return run_delay > before && before.count() != 0 ? run_delay - before : std::chrono::nanoseconds{};
    }

    /// A caller that waited longer than it worked, for others or for a processor of its own, had been done earlier
    /// alone. Members that had parked are not blamed.
    void judge(pool_clock::time_point begin) {
        const auto end = pool_clock::now();
        const bool members_spun = begin - last_end < spin;
        last_end = end;
        if (end - begin >= long_task)
            shared.caller_waited += std::min<pool_clock::duration>(lost_since_asked(), end - begin);
        if (shared.caller_waited * 2 < end - begin) {
            good_work += end - begin;
            if (good_work >= good_work_wanted)
                bad_tries = 0;
            return;
        }
        if (!members_spun)
            return;
        good_work = {};
        bad_tries = std::min(bad_tries + 1, bad_tries_max);
        alone_until = end + shared.caller_waited * (1u << bad_tries);
    }
};

compute_pool::compute_pool(const options& wanted) {
    const std::uint32_t asked = wanted.threads == 0 ? read_device_facts().cpu_cores : wanted.threads;
    const std::uint32_t members = std::clamp(asked, 1u, threads_max);
    impl_ = std::make_unique<impl>(members, wanted);
    const signal_block no_signals;
    impl_->threads.reserve(members - 1);
    for (std::uint32_t rank = 1; rank < members; ++rank) {
        try {
            impl_->threads.emplace_back([parts = impl_.get(), rank] { parts->work(rank); });
        } catch (const std::system_error&) {
            break; // a process limit: size() tells how many there are, and results do not depend on it
        }
        pthread_setname_np(impl_->threads.back().native_handle(), "moira_compute");
    }
}

compute_pool::~compute_pool() {
    const std::scoped_lock lock(impl_->turn);
    impl_->function = nullptr;
    for (std::uint32_t rank = 1; rank < size(); ++rank)
        impl_->assign(rank);
    for (std::thread& thread : impl_->threads)
        thread.join();
}

std::uint32_t compute_pool::size() const noexcept {
    return static_cast<std::uint32_t>(impl_->threads.size()) + 1;
}

void compute_pool::run(std::uint32_t team_size_max, moira_team_function function, void* argument) {
    const std::uint32_t members = team_size_max == 0 ? size() : std::min(team_size_max, size());
    if (inside_task || members == 1)
        execute(function, argument, 0, 1, nullptr);
    else
        impl_->run_team(members, function, argument);
}

void compute_pool::barrier(const moira_team_member& member) {
    if (member.size == 1)
        return;
    team& shared = *static_cast<team*>(member.team);
    const std::uint32_t phase = shared.phase.load(std::memory_order_acquire);
    if (shared.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == member.size) {
        // Nobody can arrive for the next phase before the phase changes.
        shared.arrived.store(0, std::memory_order_relaxed);
        shared.phase.fetch_add(1, std::memory_order_seq_cst);
        shared.phase.notify_all();
    } else {
        const auto waited = wait_briefly(shared.phase, phase, shared.crowded);
        if (member.rank == 0)
            shared.caller_waited += waited;
    }
}

} // namespace moira
