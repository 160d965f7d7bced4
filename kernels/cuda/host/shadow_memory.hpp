// What is known of every byte that a kernel may touch: who wrote it last and who read it, and when. Time is counted in
// epochs (one per __syncthreads and one per block, never repeated) and in warp clocks (one per __syncwarp of a warp).
// Two accesses of one byte are ordered if an epoch lies between them, if one thread made both, or if one warp made both
// and its clock moved; in a block with mbarriers also if the later thread knows of the earlier one's moment (stamps,
// vector clocks). Cooperative fibers hide a missing barrier from the values; they cannot hide it from this.
#pragma once

#include <cstdint>

namespace moira {

enum class simt_access : uint8_t { read, write, atomic };

struct simt_moment {
    uint32_t epoch;
    uint32_t clock; // of the warp
    uint32_t block;
    uint16_t thread;
    uint32_t stamp = 0;              // of the thread's own clock; 0: no clocks yet
    const uint32_t* known = nullptr; // per thread: the latest stamp that this thread has synchronised with
};

struct simt_origin {
    const void* address = nullptr; // of the instruction behind a hook, or
    const char* file = nullptr;    // the place of an explicit access
    int line = 0;
};

// Two readers are enough: the latest one, and one of another warp or, while there is none, the latest other one of the
// same warp. Every later writer that races with any reader of the epoch races with one of the two.
struct shadow_byte {
    uint32_t write_epoch = 0; // 0: never
    uint32_t write_clock = 0;
    uint32_t write_block = 0;
    uint32_t read_epoch = 0;
    uint32_t read_clock = 0;
    uint32_t other_clock = 0;
    uint32_t write_stamp = 0;
    uint32_t read_stamp = 0;
    uint32_t other_stamp = 0;
    uint32_t write_sequence = 0; // among all accesses, see simt_thread::proxy_fence
    uint32_t read_block = 0;
    uint16_t write_thread = 0;
    uint16_t read_thread = 0;
    uint16_t other_thread = 0;
    bool has_other = false;
    bool read_by_blocks = false; // by more than one in this launch
    bool write_atomic = false;
    bool in_flight = false;
    simt_origin write_origin;
    simt_origin read_origin;
};

enum class shadow_conflict : uint8_t { none, with_write, with_read, unwritten, in_flight };

// Judges one access of one byte and remembers it. first_epoch: of the launch for global memory (older entries say
// nothing), of the block for shared memory, where bytes without a write since then count as unwritten.
shadow_conflict shadow_judge(shadow_byte& byte, simt_access access, const simt_moment& now, uint32_t first_epoch,
                             bool shared, const simt_origin& origin);

} // namespace moira
