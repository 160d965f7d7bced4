// The executor's inside: one launch under way. Device code reaches it through simt_current().
#pragma once

#include "kernels/cuda/device/simt_host.hpp"
#include "kernels/cuda/host/asynchronous_work.hpp"
#include "kernels/cuda/host/executor.hpp"
#include "kernels/cuda/host/fiber.hpp"
#include "kernels/cuda/host/shadow_memory.hpp"

#include <map>
#include <random>

namespace moira {

struct simt_memory::buffer {
    const char* name;
    unsigned char* begin;
    uint64_t bytes;
    bool constant;
    void* allocation;
    uint64_t allocation_bytes;
    std::vector<shadow_byte> shadow; // filled at the first access
};

// One operation of a warp: every lane leaves its operands, the last one executes for all.
struct warp_operation {
    void (*execute)(class block_run& run, void* const* operands, uint32_t mask);
    simt_place place;
    uint32_t mask;
    uint32_t arrived = 0;
    void* operands[32] = {};
};

struct asynchronous_copy {
    unsigned char* shared;
    const unsigned char* global; // nullptr: zeros
    unsigned char at_issue[16];
    uint32_t group;
    simt_place place;
};

enum class thread_state : uint8_t { ready, at_barrier, at_mbarrier, in_warp_operation, done };

struct simt_thread {
    thread_state state = thread_state::done;
    simt_place place{}; // where it waits
    std::vector<asynchronous_copy> copies;
    uint32_t groups_committed = 0;
    uint64_t accesses_begin = 0;
    const void* waits_for = nullptr; // an mbarrier
    uint32_t proxy_fence = 0;        // accesses of the launch before its last fence_proxy_async
};

struct simt_warp {
    std::vector<warp_operation> open;
    uint32_t clock = 0;
};

struct shared_array {
    const void* tag;
    uint64_t offset;
    uint64_t bytes;
};

// Addresses of one instruction of one warp, turn by turn.
struct access_group {
    uint32_t turns[32] = {};
    uint32_t bytes = 0;
    bool shared = false;
    std::vector<std::vector<std::pair<uint32_t, uintptr_t>>> addresses; // [turn]: lane and address
};

class block_run {
public:
    block_run(const launch_shape& shape, const simt_config& config, simt_memory& memory, void (*body)(const void*),
              const void* context);
    simt_report run();

    // ---- called by device code, on a fiber ----
    void wait_for_block(simt_place place);
    void join_warp(uint32_t mask, void (*execute)(block_run&, void* const*, uint32_t), void* operands,
                   simt_place place);
    void* static_shared(const void* tag, uint64_t bytes);
    void* dynamic_shared();
    void access(const void* address, uint32_t bytes, uint32_t alignment, simt_access kind, const simt_origin& origin,
                uint32_t thread);
    void access(const void* address, uint32_t bytes, uint32_t alignment, simt_access kind, const simt_origin& origin) {
        access(address, bytes, alignment, kind, origin, current_);
    }
    void issue_copy(void* shared, const void* global, bool wanted, simt_place place);
    void commit_copies();
    void wait_for_copies(uint32_t groups, simt_place place);
    void finish_thread();
    void call_body();
    // mbarrier.cpp
    uint32_t shared_offset(const void* address, simt_place place);
    void initialize_mbarrier(void* address, uint32_t arrivals, simt_place place);
    void fence_mbarriers();
    void arrive(void* address, uint32_t bytes_expected, simt_place place);
    void wait_for_phase(void* address, uint32_t parity, simt_place place);
    void issue_bulk_copy(void* shared, const void* global, uint32_t bytes, void* barrier, simt_place place);
    void fence_proxy() { threads_[current_].proxy_fence = uint32_t(report_.accesses); }
    // warpgroup.cpp
    void join_warpgroup(warpgroup_execute execute, void* operands, simt_place place);
    void issue_wgmma(const wgmma_operands* const* lanes, uint32_t group);
    void fence_wgmma(uint32_t group) { warpgroups_[group].fenced = true; }
    void commit_wgmma(uint32_t group) { ++warpgroups_[group].groups_committed; }
    void finish_wgmma(uint32_t group, uint32_t groups_left);
    void synchronize_warp();
    uint32_t warp_begin() const { return current_ / 32 * 32; }
    bool is_shared(const void* address, uint64_t bytes) const;
    void count_matrix_banks(void* const* rows, uint32_t matrices);
    void count_access(const void* address, uint32_t bytes, uint64_t instruction);
    void count_access(const void* address, uint32_t bytes, simt_place place);

    void find(simt_fault fault, const std::string& text, const void* key_a, const void* key_b);
    // Finds, and does not return: the launch ends. The text is made by text(), so that nothing on this fiber's stack
    // owns memory when it is left.
    template <class Text>
    [[noreturn]] void stop(simt_fault fault, const Text& text) {
        find(fault, text(), &text, nullptr);
        leave_for_good();
    }
    [[noreturn]] void leave_for_good();
    std::string name_thread(uint32_t thread) const;

private:
    void run_block(uint32_t block);
    void start_block(uint32_t block);
    bool run_round();
    bool run_thread(uint32_t thread);
    bool run_warp(uint32_t warp);
    void order_round();
    void release_barrier();
    void diagnose_stall();
    void yield(thread_state state, simt_place place);
    void land(asynchronous_copy& copy);
    void judge(shadow_byte* bytes, const unsigned char* address, uint32_t count, simt_access kind,
               const simt_origin& origin, uint32_t thread, bool shared);
    void access_global(const unsigned char* address, uint32_t bytes, simt_access kind, const simt_origin& origin,
                       uint32_t thread);
    void access_shared(const unsigned char* address, uint32_t bytes, simt_access kind, const simt_origin& origin,
                       uint32_t thread);
    const shared_array* array_of(const void* address, uint64_t bytes) const;
    void place_array(shared_array array);
    void close_access_groups();
    void count_banks(const access_group& group);
    void count_sectors(const access_group& group);
    // Of blocks with mbarriers.
    uint32_t* clocks_of(uint32_t thread) { return clocks_.data() + size_t(thread) * clock_count(); }
    uint32_t bulk_thread() const { return (shape_.threads + 31) / 32 * 32; } // stands for all bulk copies
    size_t clock_count() const { return bulk_thread() + 1; }
    void start_clocks();
    simt_mbarrier& mbarrier_at(const void* address, simt_place place);
    void finish_phase(simt_mbarrier& barrier);
    void land(bulk_transfer& transfer);
    bool diagnose_asynchronous_stall();
    void check_all_work_done();
    void read_rows(const wgmma_operation& operation);
    void check_proxy(const unsigned char* address, simt_place place);
    void multiply(const wgmma_operation& operation, wgmma_sums_under_way& sums);

    launch_shape shape_;
    simt_config config_;
    simt_memory& memory_;
    void (*body_)(const void*);
    const void* context_;
    simt_report report_;
    std::mt19937_64 random_;

    std::vector<std::unique_ptr<simt_fiber>>& fibers_;
    std::vector<simt_thread> threads_;
    std::vector<simt_warp> warps_;
    std::vector<uint32_t> order_;
    uint32_t current_ = 0;
    uint32_t block_ = 0;
    uint32_t arrived_ = 0;
    uint32_t done_ = 0;
    bool stopped_ = false;
    std::string exception_text_;

    uint32_t launch_epoch_ = 0;
    uint32_t block_epoch_ = 0;
    unsigned char* arena_ = nullptr;
    std::vector<shadow_byte>& shared_shadow_;
    std::vector<shared_array> arrays_;
    uint64_t arena_used_ = 0;
    uint64_t shared_bytes_ = 0;

    std::map<const void*, simt_mbarrier> mbarriers_;
    std::vector<simt_warpgroup> warpgroups_;
    std::vector<double> rows_;     // [n][16] of B; not on a fiber's stack, which is left without unwinding
    std::vector<uint32_t> clocks_; // [thread][thread]: the latest stamp known; empty before the first mbarrier

    std::vector<std::pair<const void*, const void*>> found_;
    std::map<std::pair<uint64_t, uint32_t>, access_group> access_groups_; // by instruction and warp
};

// The launch under way, or nullptr.
block_run* simt_current();

std::string text_of(const simt_origin& origin);
std::string text_of(const simt_place& place);

} // namespace moira
