#include "core/experts/arena_populator.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/mman.h>
#include <system_error>

namespace moira {
namespace {

/// Linux 5.14; not in every C library's headers.
constexpr int populate_write = 23;

/// Leaves contents as they are, so it may run beside those who use the pages. False: this system cannot.
bool populate(std::byte* begin, std::uint64_t bytes) noexcept {
    while (::madvise(begin, bytes, populate_write) != 0) {
        if (errno != EINTR && errno != EAGAIN)
            return false;
    }
    return true;
}

} // namespace

arena_populator::arena_populator(std::byte* base) : base_(base) {}

arena_populator::~arena_populator() {
    {
        const std::lock_guard held(lock_);
        stopping_ = true;
        changed_.notify_all();
    }
    if (thread_.joinable())
        thread_.join();
}

void arena_populator::set_usable(std::uint64_t bytes) {
    std::unique_lock held(lock_);
    usable_ = bytes;
    used_ = std::min(used_, bytes);
    changed_.wait(held, [this] { return !populating_; });
    ready_ = std::min(ready_, bytes);
    changed_.notify_all();
}

void arena_populator::use(std::uint64_t bytes) {
    const std::lock_guard held(lock_);
    if (bytes <= used_)
        return;
    used_ = bytes;
    if (!behind())
        return;
    if (thread_.joinable()) {
        changed_.notify_all();
        return;
    }
    try {
        thread_ = std::thread([this] { run(); });
    } catch (const std::system_error&) {
        refused_ = true; // pages come at their first use
    }
}

std::uint64_t arena_populator::ready_bytes() const {
    const std::lock_guard held(lock_);
    return ready_;
}

/// Whole pieces only: the last, which may be shorter, comes at its first use.
bool arena_populator::behind() const noexcept {
    return !refused_ && ready_ + piece_bytes <= std::min(usable_, used_ + lead_bytes);
}

void arena_populator::run() {
    std::unique_lock held(lock_);
    while (true) {
        changed_.wait(held, [this] { return stopping_ || behind(); });
        if (stopping_)
            return;
        std::byte* const begin = base_ + ready_;
        populating_ = true;
        held.unlock();
        const bool done = populate(begin, piece_bytes);
        held.lock();
        populating_ = false;
        refused_ = !done;
        ready_ += done ? piece_bytes : 0;
        changed_.notify_all();
    }
}

} // namespace moira
