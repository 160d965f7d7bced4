#pragma once

#include <cstdint>

namespace moira {

/// Reads `bytes` (a multiple of read_kernel_step_bytes) from `begin` (64-byte aligned) and returns something that
/// depends on all of them, so that no load can be left out.
using read_kernel = std::uint64_t (*)(const unsigned char* begin, std::uint64_t bytes);

/// The four streams of a kernel each advance by up to 1 KiB.
inline constexpr std::uint64_t read_kernel_step_bytes = 4096;

struct named_read_kernel {
    const char* name;
    read_kernel read;
};

struct read_kernel_list {
    const named_read_kernel* kernels;
    std::uint32_t count;
};

// One list per vector unit, each from a file with its own compiler flags: call only what the processor has. Plain
// arrays and no inline library code, so that nothing compiled for a wide unit can be linked in for another place.
read_kernel_list read_kernels_scalar() noexcept;
read_kernel_list read_kernels_avx2() noexcept;
read_kernel_list read_kernels_avx512() noexcept;

} // namespace moira
