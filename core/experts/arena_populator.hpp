#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>

namespace moira {

/// Makes pages of the expert arena ready ahead of their first use. A page that is touched for the first time must be
/// found and cleared, and in a virtual machine its host must do the same: up to several milliseconds per expert, for
/// which a step waits if it is the loader that touches. Slots are taken from the lowest on, so that a short lead above
/// the highest one in use is enough. Where the system cannot do it (before Linux 5.14), pages come at their first use.
/// Any thread.
class arena_populator {
public:
    /// Bytes made ready beyond those in use: what four loaders at 5 GB/s fill in 50 ms, within which the thread that
    /// populates has run on any machine that is not overrun.
    static constexpr std::uint64_t lead_bytes = 256ULL << 20;

    /// Of one call to the system: one huge page, so that release() never waits for more.
    static constexpr std::uint64_t piece_bytes = 2ULL << 20;

    /// `base`: huge-page aligned. Nothing is usable yet.
    explicit arena_populator(std::byte* base);
    ~arena_populator();
    arena_populator(const arena_populator&) = delete;
    arena_populator& operator=(const arena_populator&) = delete;

    /// The first `bytes` may be populated from now on; once this has returned, nothing above them is touched.
    void set_usable(std::uint64_t bytes);

    /// The first `bytes` are, or are about to be, in use. Costs two comparisons where they are ready already.
    void use(std::uint64_t bytes);

    /// Bytes that are ready, from the base on.
    std::uint64_t ready_bytes() const;

private:
    void run();
    bool behind() const noexcept;

    std::byte* const base_;
    mutable std::mutex lock_; ///< guards all below
    std::condition_variable changed_;
    std::uint64_t usable_ = 0, used_ = 0, ready_ = 0;
    bool populating_ = false, refused_ = false, stopping_ = false;
    std::thread thread_; ///< started by the first use
};

} // namespace moira
