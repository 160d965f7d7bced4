#include "core/experts/transfer_queue.hpp"

#include "core/base/thread_time.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>

namespace moira {
namespace {

/// Weight of the newest read in the averages: the last eight or so count.
constexpr double newest_weight = 0.125;

/// A source is foreign code; an exception in a loader thread would end the process.
template <class Call>
result<void> without_throwing(Call call) {
    try {
        return call();
    } catch (const std::exception& thrown) {
        return fail(errc::internal, std::string("an expert source threw: ") + thrown.what());
    }
}

} // namespace

transfer_queue::transfer_queue(slab_source& source, std::mutex& lock, finished_function finished,
                               speculate_function next_speculative)
    : source_(source), lock_(lock), finished_function_(std::move(finished)),
      next_speculative_(std::move(next_speculative)) {}

transfer_queue::~transfer_queue() {
    {
        const std::lock_guard held(lock_);
        stopping_ = true;
        work_.notify_all();
        stopped_.notify_all();
    }
    for (std::thread& thread : threads_)
        thread.join();
}

result<void> transfer_queue::start(std::uint32_t threads) {
    try {
        for (std::uint32_t index = 0; index < threads; ++index)
            threads_.emplace_back([this] { run_loader(); });
    } catch (const std::system_error& refused) {
        return fail(errc::internal, std::string("no thread for loading experts: ") + refused.what());
    }
    const std::lock_guard held(lock_);
    can_speculate_ = next_speculative_ && threads >= 2;
    return {};
}

void transfer_queue::speculate() {
    speculation_waits_ = can_speculate_;
    if (speculation_waits_ && link_idle())
        work_.notify_one();
}

void transfer_queue::push(std::shared_ptr<expert_load> load) {
    queued_.push_back(std::move(load));
    work_.notify_one();
}

bool transfer_queue::cancel(const std::shared_ptr<expert_load>& load) {
    if (load->state != load_state::queued)
        return false;
    std::erase(queued_, load);
    load->state = load_state::cancelled;
    return true;
}

void transfer_queue::help(const std::shared_ptr<expert_load>& load, std::unique_lock<std::mutex>& held) {
    if (load->state != load_state::queued)
        return;
    std::erase(queued_, load);
    execute(load, held);
}

void transfer_queue::wait(const expert_load& load, std::unique_lock<std::mutex>& held) {
    finished_.wait(held, [&] { return load.over(); });
}

void transfer_queue::run_loader() {
    std::unique_lock held(lock_);
    while (true) {
        work_.wait(held, [this] { return stopping_ || !queued_.empty() || (speculation_waits_ && link_idle()); });
        if (stopping_)
            return;
        if (!queued_.empty()) {
            const std::shared_ptr<expert_load> load = std::move(queued_.front());
            queued_.pop_front();
            execute(load, held);
        } else if (const auto load = next_speculative_()) {
            execute(load, held);
        } else {
            speculation_waits_ = false;
        }
    }
}

double transfer_queue::busy_s(std::chrono::steady_clock::time_point now) const noexcept {
    return busy_s_ + (reading_ > 0 ? std::chrono::duration<double>(now - busy_since_).count() : 0.0);
}

void transfer_queue::begin_read(const expert_load& load) {
    if (reading_++ == 0)
        busy_since_ = std::chrono::steady_clock::now();
    reading_speculative_ += load.prefetched;
}

void transfer_queue::end_read(const expert_load& load) {
    const auto now = std::chrono::steady_clock::now();
    reading_speculative_ -= load.prefetched;
    if (--reading_ > 0)
        return;
    busy_s_ += std::chrono::duration<double>(now - busy_since_).count();
    if (speculation_waits_ && link_idle())
        work_.notify_one();
}

void transfer_queue::execute(const std::shared_ptr<expert_load>& load, std::unique_lock<std::mutex>& held) {
    load->state = load_state::running;
    load->begun = std::chrono::steady_clock::now();
    if (auto loaded = attempt(*load, held); loaded) {
        load->state = load_state::done;
    } else {
        load->state = load_state::failed;
        load->failure = std::move(loaded.error());
        failures_ += !load->prefetched || load->wanted; // nobody hears of the others
    }
    finished_function_(*load);
    finished_.notify_all();
}

result<void> transfer_queue::load_once(const expert_load& load, std::span<std::byte> scratch,
                                       std::unique_lock<std::mutex>& held) {
    const bool apart = source_.reads_apart();
    held.unlock();
    auto done = without_throwing(
        [&] { return apart ? source_.read(load.expert, scratch) : source_.load(load.expert, load.slab, scratch); });
    held.lock();
    end_read(load);
    if (!done || !apart)
        return done;
    held.unlock();
    done = without_throwing([&] { return source_.pack(load.expert, load.slab, scratch); });
    held.lock();
    return done;
}

result<void> transfer_queue::attempt(const expert_load& load, std::unique_lock<std::mutex>& held) {
    auto scratch = take_scratch();
    if (!scratch)
        return tl::unexpected(scratch.error());
    result<void> loaded;
    for (std::uint32_t attempts = 1;; ++attempts) {
        const auto begin = std::chrono::steady_clock::now();
        const double cpu_begin_s = thread_cpu_s();
        begin_read(load);
        loaded = load_once(load, scratch->bytes(), held);
        const std::chrono::duration<double> read = std::chrono::steady_clock::now() - begin;
        if (loaded)
            measure(read.count(), thread_cpu_s() - cpu_begin_s);
        if (!loaded && load.prefetched && !load.wanted)
            break; // worth one attempt
        // Only reads can be better the second time.
        if (loaded || loaded.error().code != errc::io_error || attempts == load_attempts_max || stopping_ ||
            source_.retries_itself())
            break;
        ++retries_;
        stopped_.wait_for(held, std::chrono::milliseconds(load_retry_pause_ms * attempts),
                          [this] { return stopping_; });
    }
    scratch_.push_back(std::move(*scratch));
    return loaded;
}

void transfer_queue::measure(double read_s, double cpu_s) noexcept {
    const double weight = read_s_ > 0 ? newest_weight : 1.0;
    read_s_ += weight * (read_s - read_s_);
    cpu_s_ += weight * (cpu_s - cpu_s_);
}

result<huge_page_buffer> transfer_queue::take_scratch() {
    if (scratch_.empty())
        return huge_page_buffer::create(std::max<std::uint64_t>(source_.scratch_bytes(), 1));
    huge_page_buffer taken = std::move(scratch_.back());
    scratch_.pop_back();
    return taken;
}

} // namespace moira
