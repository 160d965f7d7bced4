// The functions that -fsanitize=thread makes the compiler call before every access to memory, defined here instead of
// in the thread sanitizer's library, which is not linked. This file itself is compiled without hooks.
#include "kernels/cuda/host/block_run.hpp"

namespace moira {

bool simt_has_hooks() {
    return true;
}

namespace {

inline void hook(const void* address, uint32_t bytes, uint32_t alignment, simt_access kind, const void* instruction) {
    block_run* run = simt_current();
    if (run == nullptr) // host code in a kernel file
        return;
    run->access(address, bytes, alignment, kind, {instruction, nullptr, 0});
    run->count_access(address, bytes, uint64_t(uintptr_t(instruction)));
}

} // namespace

} // namespace moira

using moira::hook;
using moira::simt_access;

extern "C" {
#define SIMT_HOOKS(bytes)                                                                                              \
    void __tsan_read##bytes(void* address) {                                                                           \
        hook(address, bytes, bytes, simt_access::read, __builtin_return_address(0));                                   \
    }                                                                                                                  \
    void __tsan_write##bytes(void* address) {                                                                          \
        hook(address, bytes, bytes, simt_access::write, __builtin_return_address(0));                                  \
    }                                                                                                                  \
    void __tsan_unaligned_read##bytes(void* address) {                                                                 \
        hook(address, bytes, 1, simt_access::read, __builtin_return_address(0));                                       \
    }                                                                                                                  \
    void __tsan_unaligned_write##bytes(void* address) {                                                                \
        hook(address, bytes, 1, simt_access::write, __builtin_return_address(0));                                      \
    }                                                                                                                  \
    void __tsan_read_write##bytes(void* address) {                                                                     \
        hook(address, bytes, bytes, simt_access::read, __builtin_return_address(0));                                   \
        hook(address, bytes, bytes, simt_access::write, __builtin_return_address(0));                                  \
    }
SIMT_HOOKS(1)
SIMT_HOOKS(2)
SIMT_HOOKS(4)
SIMT_HOOKS(8)
SIMT_HOOKS(16)

void __tsan_read_range(void* address, unsigned long bytes) {
    hook(address, uint32_t(bytes), 1, simt_access::read, __builtin_return_address(0));
}
void __tsan_write_range(void* address, unsigned long bytes) {
    hook(address, uint32_t(bytes), 1, simt_access::write, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
}
