#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/experts/eviction_policy.hpp"
#include "core/experts/slab_source.hpp"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace moira {

enum class load_state : std::uint8_t { queued, running, done, failed, cancelled };

/// One read of one expert into one slot. All members but the bytes behind `slab` are guarded by the store's lock.
struct expert_load {
    expert_id expert;
    slot_index slot = 0;
    std::span<std::byte> slab;
    load_state state = load_state::queued;
    error failure;           ///< when failed
    bool prefetched = false; ///< began before anybody asked for the expert
    bool wanted = false;     ///< a wave has asked for it since
    bool drafted = false;    ///< only drafted rows asked for it

    bool over() const noexcept { return state != load_state::queued && state != load_state::running; }
};

/// Attempts per load. A read that failed three times within a few milliseconds is not a hiccup.
inline constexpr std::uint32_t load_attempts_max = 3;

/// Pause before the second attempt; the third waits twice as long. Long enough for a controller's reset, short enough
/// that a user does not take it for a hang.
inline constexpr std::uint32_t load_retry_pause_ms = 5;

/// Loads in the order in which they were asked, executed by loader threads and by those who wait for them. Shares the
/// store's lock: every function is called with it held, unless said otherwise; it is free during reads.
///
/// Speculative loads come from elsewhere, one at a time, and only when no load is queued and none runs: then a loader
/// asks for one. So a demand load never waits for more than the one read that had begun before it, and never for a
/// loader: speculation needs two of them.
class transfer_queue {
public:
    /// Called under the lock when a load is done or has failed for good.
    using finished_function = std::function<void(expert_load&)>;

    /// Called under the lock by a loader that finds the link idle: the next speculative load, or null when there is
    /// none any more.
    using speculate_function = std::function<std::shared_ptr<expert_load>()>;

    /// `source` and `lock` outlive the queue.
    transfer_queue(slab_source& source, std::mutex& lock, finished_function finished,
                   speculate_function next_speculative = {});

    /// Waits for the loads that run; those that nobody has begun never run. Without the lock.
    ~transfer_queue();
    transfer_queue(const transfer_queue&) = delete;
    transfer_queue& operator=(const transfer_queue&) = delete;

    /// Starts the loader threads; none is fine: then those who wait load. Once, without the lock. Errors: internal (the
    /// system refuses a thread).
    result<void> start(std::uint32_t threads);

    void push(std::shared_ptr<expert_load> load);

    /// Takes back a load that nobody has begun. False: too late.
    bool cancel(const std::shared_ptr<expert_load>& load);

    /// Does `load` on the calling thread if nobody has begun it.
    void help(const std::shared_ptr<expert_load>& load, std::unique_lock<std::mutex>& held);

    /// Sleeps until `load`, which somebody has begun, is over.
    void wait(const expert_load& load, std::unique_lock<std::mutex>& held);

    /// There may be something to load ahead of time: wakes a loader if the link is idle, otherwise when it becomes so.
    void speculate();

    /// Whether speculate() can lead to anything: one loader must stay free for demand.
    bool can_speculate() const noexcept { return can_speculate_; }

    /// Whether a load that nobody has asked for runs now.
    bool speculating() const noexcept { return running_speculative_ > 0; }

    /// What one expert's read and packing took: the average of the last few, in seconds by the clock and of one
    /// processor. 0: nothing was loaded yet.
    double read_s() const noexcept { return read_s_; }
    double cpu_s() const noexcept { return cpu_s_; }

    std::uint64_t retries() const noexcept { return retries_; }
    std::uint64_t failures() const noexcept { return failures_; }

private:
    struct release_pages {
        void operator()(std::byte* pages) const noexcept;
    };
    using page_buffer = std::unique_ptr<std::byte[], release_pages>;

    void run_loader();
    bool link_idle() const noexcept { return running_ == 0 && queued_.empty(); }
    void measure(double read_s, double cpu_s) noexcept;
    void execute(const std::shared_ptr<expert_load>& load, std::unique_lock<std::mutex>& held);
    result<void> attempt(const expert_load& load, std::unique_lock<std::mutex>& held);
    result<page_buffer> take_scratch();

    slab_source& source_;
    std::mutex& lock_;
    finished_function finished_function_;
    std::condition_variable work_, finished_, stopped_;
    std::deque<std::shared_ptr<expert_load>> queued_;
    std::vector<page_buffer> scratch_; // free ones; as many as ever loaded at once
    std::vector<std::thread> threads_;
    std::uint64_t retries_ = 0, failures_ = 0;
    speculate_function next_speculative_;
    std::size_t running_ = 0, running_speculative_ = 0;
    double read_s_ = 0, cpu_s_ = 0;
    bool speculation_waits_ = false, can_speculate_ = false;
    bool stopping_ = false;
};

} // namespace moira
