#pragma once

#include <cstdint>
#include <filesystem>

namespace moira {

/// Bytes of memory that this process could still use without swapping: the kernel's MemAvailable, or what its memory
/// cgroup (version 1 or 2, any ancestor) still allows if that is less. Pages of files that can be dropped count as
/// available. 0 when the system does not tell. `root` is "/" except in tests.
std::uint64_t available_memory_bytes(const std::filesystem::path& root = "/");

} // namespace moira
