#include "kernels/cuda/host/machine.hpp"

#include <link.h>
#include <pthread.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(address, bytes) (static_cast<void>(address), static_cast<void>(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) (static_cast<void>(address), static_cast<void>(bytes))
#endif

namespace moira {

namespace {

struct address_range {
    uintptr_t begin;
    uintptr_t end;
    bool holds(const void* address) const { return uintptr_t(address) >= begin && uintptr_t(address) < end; }
};

int collect_constant_segments(dl_phdr_info* info, size_t, void* data) {
    auto& ranges = *static_cast<std::vector<address_range>*>(data);
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& header = info->dlpi_phdr[i];
        const bool constant = header.p_type == PT_LOAD && (header.p_flags & PF_W) == 0;
        if (constant || header.p_type == PT_GNU_RELRO)
            ranges.push_back({info->dlpi_addr + header.p_vaddr, info->dlpi_addr + header.p_vaddr + header.p_memsz});
    }
    return 0;
}

address_range stack_of_caller() {
    pthread_attr_t attributes;
    void* begin = nullptr;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &begin, &bytes);
        pthread_attr_destroy(&attributes);
    }
    return {uintptr_t(begin), uintptr_t(begin) + bytes};
}

} // namespace

bool simt_readable_without_leave(const void* address) {
    static const std::vector<address_range> constants = [] {
        std::vector<address_range> ranges;
        dl_iterate_phdr(collect_constant_segments, &ranges);
        return ranges;
    }();
    static const address_range stack = stack_of_caller();
    if (stack.holds(address))
        return true;
    for (const address_range& range : constants)
        if (range.holds(address))
            return true;
    return false;
}

simt_machine::simt_machine() : shared_shadow(arena_bytes) {
    void* mapped = mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        std::abort(); // a test process without memory
    arena = static_cast<unsigned char*>(mapped);
}

simt_machine::~simt_machine() {
    ASAN_UNPOISON_MEMORY_REGION(arena, arena_bytes);
    munmap(arena, arena_bytes);
}

void simt_machine::poison_arena() {
    ASAN_UNPOISON_MEMORY_REGION(arena, arena_bytes);
    std::memset(arena, 0xFF, used_);
    for (uint64_t i = 0; i < used_; ++i)
        shared_shadow[i].in_flight = false;
    used_ = 0;
    ASAN_POISON_MEMORY_REGION(arena, arena_bytes);
}

void simt_machine::open_array(uint64_t offset, uint64_t bytes) {
    ASAN_UNPOISON_MEMORY_REGION(arena + offset, bytes);
    if (offset + bytes > used_)
        used_ = offset + bytes;
}

simt_machine& simt_machine::of_process() {
    static simt_machine machine;
    return machine;
}

} // namespace moira
