#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/experts/eviction_policy.hpp"
#include "core/experts/huge_page_buffer.hpp"
#include "core/experts/slab_source.hpp"

#include <chrono>
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
    error failure;                                    ///< when failed
    bool prefetched = false;                          ///< began before anybody asked for the expert
    bool wanted = false;                              ///< a wave has asked for it since
    bool drafted = false;                             ///< only drafted rows asked for it
    std::chrono::steady_clock::time_point begun = {}; ///< when somebody began to read; once it runs

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
/// The link is busy while an expert is being read; packing what was read is not its business, where the source can do
/// the two apart. Speculative loads come from elsewhere, one read at a time, and only when no load is queued and the
/// link is idle: then a loader asks for one. So a demand load never waits for more than the one read that had begun
/// before it, and for a loader only while that packs: speculation needs two of them.
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

    /// Sleeps until `holds`, which is asked whenever a load is over.
    template <class Condition>
    void wait_until(Condition holds, std::unique_lock<std::mutex>& held) {
        finished_.wait(held, holds);
    }

    /// Loader threads; fewer than two leave loads to those who wait for them.
    std::size_t threads() const noexcept { return threads_.size(); }

    /// There may be something to load ahead of time: wakes a loader if the link is idle, otherwise when it becomes so.
    void speculate();

    /// Whether speculate() can lead to anything: one loader must stay free for demand.
    bool can_speculate() const noexcept { return can_speculate_; }

    /// Whether an expert that nobody had asked for is being read now.
    bool speculating() const noexcept { return reading_speculative_ > 0; }

    /// Time for which the link was busy, until now.
    double busy_s(std::chrono::steady_clock::time_point now) const noexcept;

    /// What one expert's read and packing took: the average of the last few, in seconds by the clock and of one
    /// processor. 0: nothing was loaded yet.
    double read_s() const noexcept { return read_s_; }
    double cpu_s() const noexcept { return cpu_s_; }

    std::uint64_t retries() const noexcept { return retries_; }
    std::uint64_t failures() const noexcept { return failures_; }

private:
    void run_loader();
    bool link_idle() const noexcept { return reading_ == 0 && queued_.empty(); }
    void measure(double read_s, double cpu_s) noexcept;
    void execute(const std::shared_ptr<expert_load>& load, std::unique_lock<std::mutex>& held);
    result<void> attempt(const expert_load& load, std::unique_lock<std::mutex>& held);
    result<void> load_once(const expert_load& load, std::span<std::byte> scratch, std::unique_lock<std::mutex>& held);
    void begin_read(const expert_load& load);
    void end_read(const expert_load& load);
    result<huge_page_buffer> take_scratch();

    slab_source& source_;
    std::mutex& lock_;
    finished_function finished_function_;
    std::condition_variable work_, finished_, stopped_;
    std::deque<std::shared_ptr<expert_load>> queued_;
    std::vector<huge_page_buffer> scratch_; // free ones; as many as ever loaded at once
    std::vector<std::thread> threads_;
    std::uint64_t retries_ = 0, failures_ = 0;
    speculate_function next_speculative_;
    std::size_t reading_ = 0, reading_speculative_ = 0;
    std::chrono::steady_clock::time_point busy_since_; // while reading_ > 0
    double busy_s_ = 0;                                // before that
    double read_s_ = 0, cpu_s_ = 0;
    bool speculation_waits_ = false, can_speculate_ = false;
    bool stopping_ = false;
};

} // namespace moira
