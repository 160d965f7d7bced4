#pragma once

#include <algorithm>
#include <doctest/doctest.h>
#include <fstream>
#include <linux/capability.h>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace moira {

/// Within its scope this thread, and those that it starts, may lock so many bytes of memory, whoever runs the test: the
/// capability that lifts the limit is laid down meanwhile.
class memory_lock_limit {
public:
    explicit memory_lock_limit(rlim_t bytes) {
        REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &before_) == 0);
        const rlimit wanted{std::min(bytes, before_.rlim_max), before_.rlim_max};
        bytes_ = wanted.rlim_cur;
        REQUIRE(::setrlimit(RLIMIT_MEMLOCK, &wanted) == 0);
        REQUIRE(::syscall(SYS_capget, &header_, capabilities_) == 0);
        set_capability(false);
    }
    ~memory_lock_limit() {
        set_capability(true);
        ::setrlimit(RLIMIT_MEMLOCK, &before_);
    }
    memory_lock_limit(const memory_lock_limit&) = delete;
    memory_lock_limit& operator=(const memory_lock_limit&) = delete;

    /// What was wanted, or the system's hard limit where that is lower.
    rlim_t bytes() const noexcept { return bytes_; }

private:
    void set_capability(bool restored) {
        __user_cap_data_struct wanted[2] = {capabilities_[0], capabilities_[1]};
        if (!restored)
            wanted[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
        CHECK(::syscall(SYS_capset, &header_, wanted) == 0);
    }

    rlimit before_{};
    rlim_t bytes_ = 0;
    __user_cap_header_struct header_{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct capabilities_[2] = {};
};

/// Memory of this process that is locked, as the kernel counts it.
inline std::uint64_t locked_bytes_of_process() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (word == "VmLck:") {
            std::uint64_t kib = 0;
            status >> kib;
            return kib << 10;
        }
    return 0;
}

} // namespace moira
