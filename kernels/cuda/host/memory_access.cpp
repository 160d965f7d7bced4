// Every access of device code to memory: where it may go, and what the shadow says about it.
#include "kernels/cuda/host/block_run.hpp"
#include "kernels/cuda/host/machine.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace moira {

namespace {

// Between shared arrays, so that an index a little too large is seen.
constexpr uint64_t array_gap_bytes = 256;
constexpr uint64_t static_alignment = 16;   // as SIMT_SHARED says
constexpr uint64_t dynamic_alignment = 128; // as SIMT_SHARED_DYNAMIC says
constexpr uint64_t buffer_alignment = 64;   // as the plugin interface says
// An address this close to a buffer was meant for it.
constexpr uint64_t surroundings_bytes = 4096;

// The first offset that is aligned to `alignment` and to nothing larger: over-alignment would hide misaligned accesses.
uint64_t exactly_aligned(uint64_t offset, uint64_t alignment) {
    const uint64_t rounded = (offset + alignment - 1) / alignment * alignment;
    return rounded % (2 * alignment) == 0 ? rounded + alignment : rounded;
}

} // namespace

// ---- registered global memory ----

simt_memory::simt_memory() = default;

simt_memory::~simt_memory() {
    for (const auto& each : buffers_)
        std::free(each->allocation);
}

void* simt_memory::allocate(const char* name, uint64_t bytes) {
    // The end is exact, so that the address sanitizer sees the first byte behind it.
    const uint64_t allocation_bytes = bytes + buffer_alignment;
    void* allocation = nullptr;
    if (posix_memalign(&allocation, 2 * buffer_alignment, allocation_bytes) != 0)
        std::abort(); // a test process without memory
    std::memset(allocation, 0xFF, allocation_bytes);
    buffers_.push_back(std::make_unique<buffer>(buffer{name,
                                                       static_cast<unsigned char*>(allocation) + buffer_alignment,
                                                       bytes,
                                                       false,
                                                       allocation,
                                                       allocation_bytes,
                                                       {}}));
    return buffers_.back()->begin;
}

void* simt_memory::copy_bytes(const char* name, const void* bytes, uint64_t count, bool constant) {
    void* copy = allocate(name, count);
    if (count > 0)
        std::memcpy(copy, bytes, count);
    buffers_.back()->constant = constant;
    return copy;
}

simt_memory::buffer* simt_memory::find(const void* address) {
    const auto holds = [&](const buffer& b) { return uintptr_t(address) - uintptr_t(b.begin) < b.bytes; };
    if (last_ != nullptr && holds(*last_))
        return last_;
    for (const auto& each : buffers_)
        if (holds(*each))
            return last_ = each.get();
    return nullptr;
}

simt_memory::buffer* simt_memory::nearest(const void* address) {
    for (const auto& each : buffers_)
        if (uintptr_t(address) - uintptr_t(each->begin) + surroundings_bytes < each->bytes + 2 * surroundings_bytes)
            return each.get();
    return nullptr;
}

// ---- shared memory ----

void block_run::place_array(shared_array array) {
    const bool dynamic = array.tag == nullptr;
    array.offset = exactly_aligned(arena_used_ + array_gap_bytes, dynamic ? dynamic_alignment : static_alignment);
    arena_used_ = array.offset + array.bytes;
    const uint64_t taken = (array.bytes + static_alignment - 1) / static_alignment * static_alignment;
    shared_bytes_ += taken;
    if (shared_bytes_ > config_.shared_bytes_max || arena_used_ + array_gap_bytes > simt_machine::arena_bytes) {
        find(simt_fault::shared_overflow, std::to_string(shared_bytes_) + " bytes of shared memory", this, this);
        stopped_ = true;
        if (arena_used_ + array_gap_bytes > simt_machine::arena_bytes)
            return;
    }
    if (!dynamic)
        report_.static_shared_bytes =
            std::max(report_.static_shared_bytes, uint32_t(shared_bytes_ - shape_.shared_bytes));
    simt_machine::of_process().open_array(array.offset, array.bytes);
    arrays_.push_back(array);
}

void* block_run::static_shared(const void* tag, uint64_t bytes) {
    for (const shared_array& array : arrays_)
        if (array.tag == tag)
            return arena_ + array.offset;
    place_array({tag, 0, bytes});
    if (stopped_)
        leave_for_good();
    return arena_ + arrays_.back().offset;
}

void* block_run::dynamic_shared() {
    if (arrays_.empty() || arrays_[0].tag != nullptr)
        stop(simt_fault::out_of_bounds, [&] { return std::string("dynamic shared memory in a launch without it"); });
    return arena_ + arrays_[0].offset;
}

const shared_array* block_run::array_of(const void* address, uint64_t bytes) const {
    const uint64_t offset = uintptr_t(address) - uintptr_t(arena_);
    for (const shared_array& array : arrays_)
        if (offset >= array.offset && offset + bytes <= array.offset + array.bytes)
            return &array;
    return nullptr;
}

bool block_run::is_shared(const void* address, uint64_t bytes) const {
    return array_of(address, bytes) != nullptr;
}

// ---- one access ----

void block_run::access(const void* address, uint32_t bytes, uint32_t alignment, simt_access kind,
                       const simt_origin& origin, uint32_t thread) {
    if (fibers_[current_]->owns(address))
        return;
    if (++report_.accesses - threads_[current_].accesses_begin > config_.accesses_max)
        stop(simt_fault::spinning, [&] {
            return std::string(name_thread(current_) + " made " + std::to_string(config_.accesses_max) +
                               " accesses without waiting, at " + text_of(origin));
        });
    if (uintptr_t(address) % alignment != 0)
        find(simt_fault::misaligned,
             name_thread(thread) + " accesses " + std::to_string(bytes) +
                 " bytes at an address that is a multiple of " +
                 std::to_string(uintptr_t(address) & -uintptr_t(address)) + ", at " + text_of(origin),
             origin.address != nullptr ? origin.address : origin.file, nullptr);
    const auto* first = static_cast<const unsigned char*>(address);
    if (uintptr_t(address) - uintptr_t(arena_) < simt_machine::arena_bytes)
        access_shared(first, bytes, kind, origin, thread);
    else
        access_global(first, bytes, kind, origin, thread);
}

void block_run::access_shared(const unsigned char* address, uint32_t bytes, simt_access kind, const simt_origin& origin,
                              uint32_t thread) {
    if (!is_shared(address, bytes))
        stop(simt_fault::out_of_bounds,
             [&] { return std::string(name_thread(thread) + " is outside of shared arrays, at " + text_of(origin)); });
    judge(&shared_shadow_[size_t(address - arena_)], address, bytes, kind, origin, thread, true);
}

void block_run::access_global(const unsigned char* address, uint32_t bytes, simt_access kind, const simt_origin& origin,
                              uint32_t thread) {
    const auto in_index = [&](const simt_index& index) {
        return uintptr_t(address) - uintptr_t(&index) < sizeof index;
    };
    if (in_index(threadIdx) || in_index(blockIdx) || in_index(blockDim) || in_index(gridDim))
        return;
    simt_memory::buffer* buffer = memory_.find(address);
    if (buffer == nullptr) {
        if (kind == simt_access::read && simt_readable_without_leave(address))
            return;
        buffer = memory_.nearest(address);
        if (buffer == nullptr)
            stop(simt_fault::unregistered, [&] {
                return std::string(name_thread(thread) + " touches memory that it was not given, at " +
                                   text_of(origin));
            });
        stop(simt_fault::out_of_bounds, [&] {
            return std::string(name_thread(thread) + " is " + std::to_string(int64_t(address - buffer->begin)) +
                               " bytes into " + buffer->name + " of " + std::to_string(buffer->bytes) + ", at " +
                               text_of(origin));
        });
    }
    if (uint64_t(address - buffer->begin) + bytes > buffer->bytes)
        stop(simt_fault::out_of_bounds, [&] {
            return std::string(name_thread(thread) + " runs over the end of " + buffer->name + ", at " +
                               text_of(origin));
        });
    if (kind != simt_access::read && buffer->constant)
        stop(simt_fault::out_of_bounds, [&] {
            return std::string(name_thread(thread) + " writes to constant " + std::string(buffer->name) + ", at " +
                               text_of(origin));
        });
    if (buffer->shadow.empty())
        buffer->shadow.resize(buffer->bytes);
    judge(&buffer->shadow[size_t(address - buffer->begin)], address, bytes, kind, origin, thread, false);
}

void block_run::judge(shadow_byte* bytes, const unsigned char* address, uint32_t count, simt_access kind,
                      const simt_origin& origin, uint32_t thread, bool shared) {
    simt_moment now{simt_machine::of_process().epoch, warps_[thread / 32].clock, block_, uint16_t(thread)};
    if (!clocks_.empty()) {
        now.known = clocks_of(thread);
        now.stamp = now.known[thread];
    }
    for (uint32_t i = 0; i < count; ++i) {
        const shadow_byte before = bytes[i];
        const shadow_conflict conflict =
            shadow_judge(bytes[i], kind, now, shared ? block_epoch_ : launch_epoch_, shared, origin);
        if (kind != simt_access::read)
            bytes[i].write_sequence = uint32_t(report_.accesses);
        // Without hooks nobody saw the plain writes.
        if (conflict == shadow_conflict::none || (conflict == shadow_conflict::unwritten && !simt_has_hooks()))
            continue;
        const bool with_read = conflict == shadow_conflict::with_read;
        const simt_origin& other = with_read ? before.read_origin : before.write_origin;
        const uint32_t other_thread = with_read ? before.read_thread : before.write_thread;
        std::string text =
            name_thread(thread) + (kind == simt_access::read ? " reads at " : " writes at ") + text_of(origin);
        simt_fault fault = simt_fault::race;
        if (conflict == shadow_conflict::unwritten) {
            fault = simt_fault::unwritten_read;
            text += " what nobody wrote";
        } else if (conflict == shadow_conflict::in_flight) {
            fault = simt_fault::copy_in_flight;
            text += " what an asynchronous copy has yet to fill";
        } else {
            text += std::string(" against the ") + (with_read ? "read" : "write") + " of block " +
                    std::to_string(with_read ? before.read_block : before.write_block) + " thread " +
                    std::to_string(other_thread) + " at " + text_of(other) + " of " +
                    (shared ? "shared byte " + std::to_string(address - arena_ + i)
                            : "byte of " + std::string(memory_.find(address)->name));
        }
        find(fault, text, origin.address != nullptr ? origin.address : origin.file,
             other.address != nullptr ? other.address : other.file);
        return; // one report per access is enough
    }
}

// ---- asynchronous copies: the data lands at the latest moment that the program allows ----

void block_run::issue_copy(void* shared, const void* global, bool wanted, simt_place place) {
    const simt_origin origin{nullptr, place.file, place.line};
    auto* destination = static_cast<unsigned char*>(shared);
    if (uintptr_t(shared) - uintptr_t(arena_) >= simt_machine::arena_bytes)
        stop(simt_fault::out_of_bounds,
             [&] { return std::string("an asynchronous copy to memory that is not shared, at " + text_of(place)); });
    access(shared, 16, 16, simt_access::write, origin);
    count_access(shared, 16, place);
    asynchronous_copy copy{destination, nullptr, {}, threads_[current_].groups_committed + 1, place};
    if (wanted) {
        access(global, 16, 16, simt_access::read, origin);
        count_access(global, 16, place);
        copy.global = static_cast<const unsigned char*>(global);
        std::memcpy(copy.at_issue, global, 16);
    }
    std::memset(destination, 0xFF, 16);
    for (uint32_t i = 0; i < 16; ++i)
        shared_shadow_[size_t(destination - arena_) + i].in_flight = true;
    threads_[current_].copies.push_back(copy);
}

void block_run::commit_copies() {
    ++threads_[current_].groups_committed;
}

void block_run::wait_for_copies(uint32_t groups, simt_place) {
    simt_thread& thread = threads_[current_];
    size_t landed = 0;
    while (landed < thread.copies.size() && thread.copies[landed].group + groups <= thread.groups_committed)
        land(thread.copies[landed++]);
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + std::ptrdiff_t(landed));
}

void block_run::land(asynchronous_copy& copy) {
    const simt_origin origin{nullptr, copy.place.file, copy.place.line};
    for (uint32_t i = 0; i < 16; ++i)
        shared_shadow_[size_t(copy.shared - arena_) + i].in_flight = false;
    if (copy.global != nullptr) {
        if (std::memcmp(copy.global, copy.at_issue, 16) != 0)
            find(simt_fault::copy_in_flight, "the source of the copy at " + text_of(copy.place) + " changed under way",
                 copy.place.file, copy.global);
        access(copy.global, 16, 16, simt_access::read, origin);
        std::memcpy(copy.shared, copy.at_issue, 16);
    } else {
        std::memset(copy.shared, 0, 16);
    }
    access(copy.shared, 16, 16, simt_access::write, origin);
}

} // namespace moira
