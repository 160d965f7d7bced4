#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace moira {

/// Keeps memory from being swapped out, page by page as it is touched; nothing to do where the system has no swap.
/// False: the system refuses, see lock_refusal(). Unmapping ends it.
bool lock_memory(void* begin, std::uint64_t bytes) noexcept;

/// For tests: as if the system had swap, or had none; empty: as it is. Not while another thread locks.
void assume_swap(std::optional<bool> exists) noexcept;

/// A sentence for the log about `bytes` that could not be locked, with the limit that stands in the way.
std::string lock_refusal(const std::string& what, std::uint64_t bytes);

} // namespace moira
