// mbarriers, bulk copies and the clocks that say who knows of whose accesses through them. Never compiled with hooks.
#include "kernels/cuda/device/simt_sm90.hpp"
#include "kernels/cuda/host/block_run.hpp"
#include "kernels/cuda/host/machine.hpp"

#include <algorithm>
#include <cstring>

namespace moira {

namespace {

constexpr uint32_t bulk_unit = 16;             // bytes: of addresses and sizes
constexpr int64_t bytes_missing_max = 1 << 20; // exclusive: the range of an mbarrier's count
constexpr uint32_t arrivals_max = (1 << 20) - 1;
constexpr uint32_t window_bytes = 1 << 18; // of shared memory, as a descriptor can name it

void take_maximum(uint32_t* to, const uint32_t* from, size_t count) {
    for (size_t i = 0; i < count; ++i)
        to[i] = std::max(to[i], from[i]);
}

} // namespace

// ---- clocks ----

void block_run::start_clocks() {
    if (!clocks_.empty())
        return;
    clocks_.assign(clock_count() * clock_count(), 0);
    for (uint32_t thread = 0; thread < clock_count(); ++thread)
        clocks_of(thread)[thread] = 1;
}

// A part of the warp orders only itself, which the warp's clock cannot say: called for whole warps.
void block_run::synchronize_warp() {
    ++warps_[current_ / 32].clock;
    if (clocks_.empty())
        return;
    const uint32_t end = std::min(warp_begin() + 32, shape_.threads);
    std::vector<uint32_t> all(clock_count(), 0);
    for (uint32_t thread = warp_begin(); thread < end; ++thread)
        take_maximum(all.data(), clocks_of(thread), clock_count());
    for (uint32_t thread = warp_begin(); thread < end; ++thread) {
        take_maximum(clocks_of(thread), all.data(), clock_count());
        ++clocks_of(thread)[thread];
    }
}

// ---- barriers ----

uint32_t block_run::shared_offset(const void* address, simt_place place) {
    const uint64_t offset = uintptr_t(address) - uintptr_t(arena_);
    if (offset >= window_bytes)
        stop(simt_fault::out_of_bounds,
             [&] { return std::string("a shared address of other memory, at " + text_of(place)); });
    return uint32_t(offset);
}

void block_run::initialize_mbarrier(void* address, uint32_t arrivals, simt_place place) {
    if (!is_shared(address, 8) || arrivals == 0 || arrivals > arrivals_max)
        stop(simt_fault::misused_barrier, [&] {
            return std::string("an mbarrier outside of shared arrays, or of " + std::to_string(arrivals) +
                               " arrivals, at " + text_of(place));
        });
    access(address, 8, 8, simt_access::write, {nullptr, place.file, place.line});
    start_clocks();
    simt_mbarrier barrier{};
    barrier.arrivals = barrier.arrivals_missing = arrivals;
    barrier.epoch = simt_machine::of_process().epoch;
    barrier.thread = current_;
    barrier.gathered.assign(clock_count(), 0);
    barrier.known = barrier.gathered;
    mbarriers_[address] = barrier;
}

void block_run::fence_mbarriers() {
    for (auto& [address, barrier] : mbarriers_)
        barrier.fenced = barrier.fenced || barrier.thread == current_;
}

simt_mbarrier& block_run::mbarrier_at(const void* address, simt_place place) {
    const auto found = mbarriers_.find(address);
    if (found == mbarriers_.end() || !found->second.fenced)
        stop(simt_fault::misused_barrier,
             [&] { return std::string("an mbarrier that was not initialised and fenced, at " + text_of(place)); });
    const simt_mbarrier& barrier = found->second;
    if (barrier.thread != current_ && barrier.epoch == simt_machine::of_process().epoch)
        stop(simt_fault::misused_barrier, [&] {
            return std::string("no __syncthreads between an mbarrier's initialisation and its use, at " +
                               text_of(place));
        });
    return found->second;
}

void block_run::arrive(void* address, uint32_t bytes_expected, simt_place place) {
    simt_mbarrier& barrier = mbarrier_at(address, place);
    if (barrier.arrivals_missing == 0 || barrier.bytes_missing + bytes_expected >= bytes_missing_max)
        stop(simt_fault::misused_barrier, [&] {
            return std::string("more arrivals or bytes than a phase of the mbarrier has, at " + text_of(place));
        });
    barrier.bytes_missing += bytes_expected;
    take_maximum(barrier.gathered.data(), clocks_of(current_), clock_count());
    ++clocks_of(current_)[current_];
    --barrier.arrivals_missing;
    finish_phase(barrier);
}

// Ends the phase when nothing is missing. Copies land only when somebody waits and they are all that is missing.
void block_run::finish_phase(simt_mbarrier& barrier) {
    if (barrier.arrivals_missing != 0)
        return;
    if (barrier.bytes_missing > 0) {
        int64_t under_way = 0;
        for (const bulk_transfer& transfer : barrier.transfers)
            under_way += int64_t(transfer.at_issue.size());
        if (barrier.waiting == 0 || under_way < barrier.bytes_missing)
            return;
        if (under_way > barrier.bytes_missing)
            stop(simt_fault::misused_barrier, [&] {
                return std::string("bulk copies bring " + std::to_string(under_way) + " bytes where " +
                                   std::to_string(barrier.bytes_missing) + " are expected");
            });
        for (bulk_transfer& transfer : barrier.transfers)
            land(transfer);
        barrier.transfers.clear();
        barrier.bytes_missing = 0;
        uint32_t& stamp = clocks_of(bulk_thread())[bulk_thread()];
        barrier.gathered[bulk_thread()] = std::max(barrier.gathered[bulk_thread()], stamp++);
    }
    barrier.known = barrier.gathered;
    barrier.arrivals_missing = barrier.arrivals;
    barrier.waiting = 0;
    ++barrier.phase;
    for (simt_thread& thread : threads_)
        if (thread.state == thread_state::at_mbarrier && &mbarriers_[thread.waits_for] == &barrier)
            thread.state = thread_state::ready;
}

void block_run::wait_for_phase(void* address, uint32_t parity, simt_place place) {
    simt_mbarrier& barrier = mbarrier_at(address, place);
    while (barrier.phase % 2 == parity) {
        const uint64_t phase = barrier.phase;
        ++barrier.waiting;
        finish_phase(barrier);
        if (barrier.phase != phase)
            continue;
        threads_[current_].waits_for = address;
        yield(thread_state::at_mbarrier, place);
    }
    take_maximum(clocks_of(current_), barrier.known.data(), clock_count());
}

// ---- bulk copies ----

void block_run::issue_bulk_copy(void* shared, const void* global, uint32_t bytes, void* address, simt_place place) {
    const simt_origin origin{nullptr, place.file, place.line};
    simt_mbarrier& barrier = mbarrier_at(address, place);
    auto* destination = static_cast<unsigned char*>(shared);
    if (bytes == 0 || bytes % bulk_unit != 0 || !is_shared(shared, bytes))
        stop(simt_fault::misused_barrier, [&] {
            return std::string("a bulk copy of " + std::to_string(bytes) +
                               " bytes, which is no multiple of 16 or does not fit a shared array, at " +
                               text_of(place));
        });
    access(shared, bytes, bulk_unit, simt_access::write, origin);
    access(global, bytes, bulk_unit, simt_access::read, origin);
    const auto* source = static_cast<const unsigned char*>(global);
    barrier.transfers.push_back({destination, source, {source, source + bytes}, place});
    std::memset(destination, 0xFF, bytes);
    for (uint32_t i = 0; i < bytes; ++i)
        shared_shadow_[size_t(destination - arena_) + i].in_flight = true;
    finish_phase(barrier);
}

void block_run::land(bulk_transfer& transfer) {
    const size_t bytes = transfer.at_issue.size();
    if (std::memcmp(transfer.global, transfer.at_issue.data(), bytes) != 0)
        find(simt_fault::copy_in_flight,
             "the source of the bulk copy at " + text_of(transfer.place) + " changed under way", transfer.place.file,
             transfer.global);
    std::memcpy(transfer.shared, transfer.at_issue.data(), bytes);
    for (size_t i = 0; i < bytes; ++i) {
        shadow_byte& byte = shared_shadow_[size_t(transfer.shared - arena_) + i];
        byte.in_flight = false;
        byte.write_epoch = simt_machine::of_process().epoch;
        byte.write_block = block_;
        byte.write_thread = uint16_t(bulk_thread());
        byte.write_clock = 0;
        byte.write_stamp = clocks_of(bulk_thread())[bulk_thread()];
        byte.write_atomic = false;
        byte.write_origin = {nullptr, transfer.place.file, transfer.place.line};
    }
}

// ---- the end ----

bool block_run::diagnose_asynchronous_stall() {
    for (const simt_warpgroup& warpgroup : warpgroups_)
        if (warpgroup.arrived != 0) {
            find(simt_fault::divergent_warp,
                 "a warpgroup at " + text_of(warpgroup.place) + ": only " + std::to_string(warpgroup.arrived) +
                     " of 128 threads came",
                 warpgroup.place.file, nullptr);
            return true;
        }
    for (uint32_t thread = 0; thread < shape_.threads; ++thread) {
        if (threads_[thread].state != thread_state::at_mbarrier)
            continue;
        const simt_mbarrier& barrier = mbarriers_[threads_[thread].waits_for];
        find(simt_fault::starved_barrier,
             name_thread(thread) + " waits at " + text_of(threads_[thread].place) + " for " +
                 std::to_string(barrier.arrivals_missing) + " arrivals and " + std::to_string(barrier.bytes_missing) +
                 " bytes that never come",
             threads_[thread].place.file, nullptr);
        return true;
    }
    return false;
}

void block_run::check_all_work_done() {
    for (const auto& [address, barrier] : mbarriers_)
        if (!barrier.transfers.empty())
            find(simt_fault::copy_in_flight,
                 "the block ends before the bulk copy at " + text_of(barrier.transfers[0].place) + " was waited for",
                 barrier.transfers[0].place.file, address);
    for (const simt_warpgroup& warpgroup : warpgroups_)
        if (!warpgroup.operations.empty())
            find(simt_fault::misused_barrier,
                 "the block ends before the wgmma at " + text_of(warpgroup.operations[0].place) + " was waited for",
                 warpgroup.operations[0].place.file, &warpgroup);
}

// ---- the layer's functions ----

uint32_t shared_address(const void* address) {
    return simt_current()->shared_offset(address, simt_place::here());
}
void mbarrier_init(uint64_t* barrier, uint32_t arrivals, simt_place place) {
    simt_current()->initialize_mbarrier(barrier, arrivals, place);
}
void mbarrier_init_fence(simt_place) {
    simt_current()->fence_mbarriers();
}
void mbarrier_arrive(uint64_t* barrier, simt_place place) {
    simt_current()->arrive(barrier, 0, place);
}
void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes, simt_place place) {
    simt_current()->arrive(barrier, bytes, place);
}
void mbarrier_wait(uint64_t* barrier, uint32_t parity, simt_place place) {
    simt_current()->wait_for_phase(barrier, parity, place);
}
void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, simt_place place) {
    simt_current()->issue_bulk_copy(shared, global, bytes, barrier, place);
}
void fence_proxy_async(simt_place) {
    simt_current()->fence_proxy();
}

} // namespace moira
