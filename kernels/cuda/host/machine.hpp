// What launches of a process share: stacks, shared memory with its shadow, and the time.
#pragma once

#include "kernels/cuda/host/fiber.hpp"
#include "kernels/cuda/host/shadow_memory.hpp"

#include <memory>
#include <vector>

namespace moira {

struct simt_machine {
    // The largest block's 227 KiB with gaps between its arrays.
    static constexpr uint64_t arena_bytes = 512 * 1024;

    std::vector<std::unique_ptr<simt_fiber>> fibers;
    std::vector<shadow_byte> shared_shadow; // one per byte of the arena
    unsigned char* arena;
    uint32_t epoch = 0;

    simt_machine();
    ~simt_machine();
    simt_machine(const simt_machine&) = delete;
    simt_machine& operator=(const simt_machine&) = delete;

    // All ones again, and out of bounds for the address sanitizer until arrays are placed.
    void poison_arena();
    void open_array(uint64_t offset, uint64_t bytes);

    static simt_machine& of_process();

private:
    uint64_t used_ = arena_bytes;
};

// Memory that every thread may read without being given it: code, constants, and the caller's stack, where kernel
// parameters lie.
bool simt_readable_without_leave(const void* address);

} // namespace moira
