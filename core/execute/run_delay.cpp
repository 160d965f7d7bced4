#include "core/execute/run_delay.hpp"

#include <cstdint>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

namespace moira {

std::chrono::nanoseconds thread_run_delay() noexcept {
    const int file = ::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return {};
    char text[96]; // three numbers of at most 20 digits
    const auto bytes = ::read(file, text, sizeof text - 1);
    ::close(file);
    if (bytes <= 0)
        return {};
    text[bytes] = '\0';
    std::uint64_t ran_ns = 0, waited_ns = 0;
    if (std::sscanf(text, "%lu %lu", &ran_ns, &waited_ns) != 2)
        return {};
    return std::chrono::nanoseconds(waited_ns);
}

} // namespace moira
