// Sizes that the generic kernels share.
#pragma once

#include <cstdint>

namespace moira {

// Threads of a block that works on one row: eight warps keep a memory system busy, and two hidden sizes' worth of rows
// fit an SM.
constexpr uint32_t row_threads = 256;

// What a block may use without asking for more.
constexpr uint32_t shared_bytes_plain = 48 * 1024;

} // namespace moira
