#pragma once

#include "core/experts/prefetch_hints.hpp"
#include "core/experts/residency_table.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

namespace moira {

/// A read that nobody had asked for when it began.
struct speculative_read {
    slot_index slot = 0;
    expert_id expert; ///< by the model's layer number
    double end_s = 0;
};

/// The link of a simulated store: one read at a time, demand before hints, on a clock that the caller moves.
class simulated_link {
public:
    /// `next`: a slot for the likeliest hint that is worth loading at `now_s`, or none. `done`: the read has ended.
    using next_function = std::function<std::optional<speculative_read>(double now_s)>;
    using done_function = std::function<void(const speculative_read&)>;
    simulated_link(next_function next, done_function done) : next_(std::move(next)), done_(std::move(done)) {}

    /// A demand load: behind everything that has begun. Returns when it ends.
    double load(double now_s, double read_s) noexcept {
        free_s_ = std::max(free_s_, now_s) + read_s;
        busy_s_ += read_s;
        return free_s_;
    }

    /// Speculation whenever the link is idle from `from_s` until `to_s`; reads that begin before are finished after.
    void advance(double from_s, double to_s) {
        while (true) {
            if (running_ && running_->end_s <= to_s)
                finish();
            if (running_ || std::max(free_s_, from_s) >= to_s)
                return;
            const double begin_s = std::max(free_s_, from_s);
            running_ = next_(begin_s);
            if (!running_)
                return;
            busy_s_ += running_->end_s - begin_s;
            free_s_ = running_->end_s;
        }
    }

    const std::optional<speculative_read>& running() const noexcept { return running_; }

    void finish() {
        const auto ended = *std::exchange(running_, std::nullopt);
        done_(ended);
    }

    double busy_s() const noexcept { return busy_s_; }

private:
    next_function next_;
    done_function done_;
    std::optional<speculative_read> running_;
    double free_s_ = 0, busy_s_ = 0;
};

/// For classes that read a clock.
inline std::chrono::steady_clock::time_point simulated_time(double now_s) noexcept {
    return std::chrono::steady_clock::time_point(
        std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(now_s)));
}

} // namespace moira
