#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <linux/aio_abi.h>
#include <mutex>
#include <span>
#include <vector>

namespace moira {

/// Direct reads of several pieces that are all asked for at once, so that the caller can work on the first ones while
/// the disk brings the others. By the kernel's own asynchronous reads (io_submit), which for O_DIRECT are asynchronous
/// on every file system that MOIRA is likely to meet, and which container runtimes allow where they forbid io_uring.
/// Thread-safe.
class pieced_reader {
public:
    /// The first `done` bytes are there. On the calling thread, `done` rising.
    using arrival_function = std::function<void(std::uint64_t done)>;

    pieced_reader() = default;
    pieced_reader(const pieced_reader&) = delete;
    pieced_reader& operator=(const pieced_reader&) = delete;
    ~pieced_reader();

    /// Whether reading so many bytes in pieces can be worth it.
    static bool worth(std::uint64_t bytes) noexcept;

    /// Fills the first `wanted` bytes of `into`, whose address and size and `offset` suit direct reads. False: the
    /// system refused, or some piece did not come whole; nothing is on its way then, and a plain read tells why.
    bool read(int descriptor, std::span<std::byte> into, std::uint64_t wanted, std::uint64_t offset,
              const arrival_function& arrived);

private:
    aio_context_t take_context();
    void give_back(aio_context_t context);

    std::mutex lock_;
    std::vector<aio_context_t> free_; // as many as ever read at once
    bool refused_ = false;            // the system has none to give: never asked again
};

} // namespace moira
