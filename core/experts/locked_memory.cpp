#include "core/experts/locked_memory.hpp"

#include <fstream>
#include <sys/mman.h>
#include <sys/resource.h>

namespace moira {
namespace {

bool swap_exists() {
    std::ifstream stream("/proc/meminfo");
    constexpr int lines_max = 256; // the kernel writes some sixty
    std::string line;
    for (int count = 0; count < lines_max && std::getline(stream, line); ++count)
        if (line.starts_with("SwapTotal:"))
            return line.find_first_of("123456789") != std::string::npos;
    return true;
}

std::optional<bool> assumed_swap;

} // namespace

void assume_swap(std::optional<bool> exists) noexcept {
    assumed_swap = exists;
}

bool lock_memory(void* begin, std::uint64_t bytes) noexcept {
    static const bool found = swap_exists();
    return !assumed_swap.value_or(found) || bytes == 0 || ::mlock2(begin, bytes, MLOCK_ONFAULT) == 0;
}

std::string lock_refusal(const std::string& what, std::uint64_t bytes) {
    rlimit limit{};
    ::getrlimit(RLIMIT_MEMLOCK, &limit);
    return std::to_string(bytes >> 20) + " MiB of " + what + " are not locked in memory, the limit is " +
           std::to_string(static_cast<std::uint64_t>(limit.rlim_cur) >> 10) +
           " KiB: under memory pressure the system may swap them out; raise it with ulimit -l or LimitMEMLOCK";
}

} // namespace moira
