#pragma once

#include <chrono>

namespace moira {

/// How long the calling thread has been ready to run without a processor, since it started: what neighbours took from
/// it. Reads /proc/thread-self/schedstat (about 5 us); zero where the system does not tell.
std::chrono::nanoseconds thread_run_delay() noexcept;

} // namespace moira
