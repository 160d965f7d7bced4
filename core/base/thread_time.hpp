#pragma once

#include <ctime>

namespace moira {

/// Processor time of the calling thread since its start, in seconds.
inline double thread_cpu_s() noexcept {
    timespec used{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

} // namespace moira
