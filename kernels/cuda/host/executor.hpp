// Runs device code on the host, for tests: one fiber per CUDA thread, one block at a time, on the calling thread. It
// lies beside the layer that it implements (device/simt_host.hpp) and not under tests/, because the two change together
// and more than one test folder links it. No product links it.
//
// What it finds is listed at simt_fault. Accesses through plain pointers are seen only in files compiled with
// -fsanitize=thread (see moira_simt_kernels in CMakeLists.txt): the compiler then calls hooks, which are defined here
// instead of the thread sanitizer's. Without hooks (a build with the address sanitizer), barriers, warp operations,
// asynchronous copies and explicit vector accesses are still watched.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

enum class simt_fault {
    race,              // two threads, one of them writing, without a barrier between; or two blocks
    unwritten_read,    // shared memory that nobody wrote in this block
    out_of_bounds,     // near a registered buffer or a shared array, or a write to a constant one
    unregistered,      // memory that the kernel was not given
    misaligned,        // a vector access or an asynchronous copy
    divergent_barrier, // not all threads of the block reached the same __syncthreads
    divergent_warp,    // a shuffle, ballot, __syncwarp, ldmatrix or mma with absent lanes
    copy_in_flight,    // the destination of an asynchronous copy was touched before its wait, or the source changed
    shared_overflow,   // more shared memory than an SM gives a block
    spinning,          // more switches or accesses than the cap
    exception,         // thrown by the body
    misused_barrier,   // an mbarrier, bulk copy or wgmma against the rules of device/simt_sm90.hpp
    starved_barrier,   // an mbarrier whose arrivals or bytes never come
    unfenced_proxy     // wgmma reads what a thread stored without fence_proxy_async
};
std::string_view name_of(simt_fault fault);

struct simt_finding {
    simt_fault fault;
    std::string text; // who, where and against whom
};

enum class simt_schedule {
    forward,      // each thread runs until it waits, by rising index
    reverse,      // by falling index
    warp_greedy,  // one warp runs as far as it can, then the next: shows missing write-after-read barriers by value
    random,       // threads in random order, new in every round
    random_greedy // warp_greedy with random warps
};

struct simt_config {
    simt_schedule schedule = simt_schedule::forward;
    uint64_t seed = 1;
    bool shuffle_blocks = false;
    // The host's 100 x 1024 threads x 100 barriers; a kernel that needs more is too large for a test.
    uint64_t switches_max = 10'000'000;
    // Between two switches of one thread.
    uint64_t accesses_max = 100'000'000;
    uint32_t shared_bytes_max = 163 * 1024; // what an SM of compute capability 8.0 gives one block
    bool count_memory_requests = false;     // bank conflicts of ldmatrix are always counted
};
// One of each schedule, the later ones with shuffled blocks.
std::vector<simt_config> simt_all_schedules(uint64_t seed);

struct simt_report {
    std::vector<simt_finding> findings; // no two alike, at most 16
    uint64_t switches = 0;
    uint64_t barriers = 0; // __syncthreads, counted once per block
    uint64_t accesses = 0; // seen by hooks
    uint64_t bank_phases = 0;
    uint64_t bank_conflicts = 0; // passes beyond the first
    // Of warps to global memory, and the sectors of 32 bytes that they touch; the least that could hold as many bytes.
    uint64_t global_requests = 0;
    uint64_t global_sectors = 0;
    uint64_t global_sectors_least = 0;
    uint32_t static_shared_bytes = 0;

    // Of an earlier launch.
    void add_counts(const simt_report& other);
    bool clean() const { return findings.empty(); }
    bool has(simt_fault fault) const;
    std::string text() const; // one finding per line
};

// Global memory as the kernel sees it: everything outside is an error. Buffers are aligned to 64 bytes and no more, and
// start as all ones (NaN in every float format). Not thread-safe.
class simt_memory {
public:
    simt_memory();
    ~simt_memory();
    simt_memory(const simt_memory&) = delete;
    simt_memory& operator=(const simt_memory&) = delete;

    // `name` is for reports and must outlive this.
    void* allocate(const char* name, uint64_t bytes);
    template <class Element>
    Element* allocate_array(const char* name, uint64_t count) {
        return static_cast<Element*>(allocate(name, count * sizeof(Element)));
    }
    template <class Element>
    Element* copy_of(const char* name, const std::vector<Element>& values, bool constant = true) {
        return static_cast<Element*>(copy_bytes(name, values.data(), values.size() * sizeof(Element), constant));
    }
    // A kernel that writes to it is reported.
    void* copy_bytes(const char* name, const void* bytes, uint64_t count, bool constant);

    struct buffer;
    buffer* find(const void* address);    // that holds the address, or nullptr
    buffer* nearest(const void* address); // whose surroundings hold it, or nullptr

private:
    std::vector<std::unique_ptr<buffer>> buffers_;
    buffer* last_ = nullptr;
};

// Whether the layer was built with memory hooks: races and bounds of plain accesses are found only then.
bool simt_has_hooks();

simt_report simt_run(const launch_shape& shape, const simt_config& config, simt_memory& memory,
                     void (*body)(const void*), const void* context);

// Calls body() once per CUDA thread. Stops at the first finding after which the kernel cannot go on safely (bounds,
// divergence, spinning). One launch at a time in a process.
template <class Body>
simt_report simt_launch(const launch_shape& shape, const simt_config& config, simt_memory& memory, const Body& body) {
    return simt_run(
        shape, config, memory, [](const void* context) { (*static_cast<const Body*>(context))(); }, &body);
}

} // namespace moira
