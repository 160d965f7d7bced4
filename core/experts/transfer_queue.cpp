#include "core/experts/transfer_queue.hpp"

#include "core/base/checked.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <system_error>

namespace moira {
namespace {

constexpr std::uint64_t page_bytes = 4096; // what slab_source asks of its scratch

/// Weight of the newest read in the averages: the last eight or so count.
constexpr double newest_weight = 0.125;

/// Processor time of the calling thread.
double thread_cpu_s() noexcept {
    timespec used{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

/// A source is foreign code; an exception in a loader thread would end the process.
result<void> load_without_throwing(slab_source& source, expert_id expert, std::span<std::byte> slab,
                                   std::span<std::byte> scratch) {
    try {
        return source.load(expert, slab, scratch);
    } catch (const std::exception& thrown) {
        return fail(errc::internal, std::string("an expert source threw: ") + thrown.what());
    }
}

} // namespace

void transfer_queue::release_pages::operator()(std::byte* pages) const noexcept {
    std::free(pages);
}

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

void transfer_queue::execute(const std::shared_ptr<expert_load>& load, std::unique_lock<std::mutex>& held) {
    load->state = load_state::running;
    const bool speculative = load->prefetched;
    ++running_;
    running_speculative_ += speculative;
    if (auto loaded = attempt(*load, held); loaded) {
        load->state = load_state::done;
    } else {
        load->state = load_state::failed;
        load->failure = std::move(loaded.error());
        failures_ += !load->prefetched || load->wanted; // nobody hears of the others
    }
    --running_;
    running_speculative_ -= speculative;
    finished_function_(*load);
    finished_.notify_all();
    if (speculation_waits_ && link_idle())
        work_.notify_one();
}

result<void> transfer_queue::attempt(const expert_load& load, std::unique_lock<std::mutex>& held) {
    auto scratch = take_scratch();
    if (!scratch)
        return tl::unexpected(scratch.error());
    const std::span<std::byte> pages(scratch->get(), source_.scratch_bytes());
    result<void> loaded;
    for (std::uint32_t attempts = 1;; ++attempts) {
        held.unlock();
        const auto begin = std::chrono::steady_clock::now();
        const double cpu_begin_s = thread_cpu_s();
        loaded = load_without_throwing(source_, load.expert, load.slab, pages);
        const double cpu_s = thread_cpu_s() - cpu_begin_s;
        const std::chrono::duration<double> read = std::chrono::steady_clock::now() - begin;
        held.lock();
        if (loaded)
            measure(read.count(), cpu_s);
        if (!loaded && load.prefetched && !load.wanted)
            break; // worth one attempt
        // Only reads can be better the second time.
        if (loaded || loaded.error().code != errc::io_error || attempts == load_attempts_max || stopping_)
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

result<transfer_queue::page_buffer> transfer_queue::take_scratch() {
    if (!scratch_.empty()) {
        page_buffer taken = std::move(scratch_.back());
        scratch_.pop_back();
        return taken;
    }
    const std::uint64_t bytes = round_up(std::max(source_.scratch_bytes(), page_bytes), page_bytes);
    page_buffer fresh(static_cast<std::byte*>(std::aligned_alloc(page_bytes, bytes)));
    if (!fresh)
        return fail(errc::out_of_memory, "no " + std::to_string(bytes) + " bytes of scratch for loading an expert");
    return fresh;
}

} // namespace moira
