#include "kernels/cuda/host/fiber.hpp"

#include <sys/mman.h>

#include <cstdlib>

#if !defined(__x86_64__)
#error "the host executor's fibers are written for x86-64"
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif

#ifdef SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the callee-saved registers on the old stack and its pointer in *save, then takes the new stack. The first
// switch into a fiber "returns" into moira_simt_first, which finds the fiber in r12.
asm(R"(
.text
.p2align 4
.globl moira_simt_switch
.type moira_simt_switch, @function
moira_simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size moira_simt_switch, .-moira_simt_switch
.p2align 4
.globl moira_simt_first
.type moira_simt_first, @function
moira_simt_first:
    movq %r12, %rdi
    callq *%r13
    ud2
.size moira_simt_first, .-moira_simt_first
.section .note.GNU-stack,"",@progbits
.text
)");

extern "C" void moira_simt_switch(void** save, void* take);
extern "C" void moira_simt_first();

namespace moira {

namespace {
constexpr size_t guard_bytes = 4096;
}

void simt_fiber_main(simt_fiber* fiber) {
    simt_fiber::main(fiber);
}

simt_fiber::simt_fiber() {
    void* mapped = mmap(nullptr, stack_bytes + guard_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED || mprotect(mapped, guard_bytes, PROT_NONE) != 0)
        std::abort(); // a test process without memory
    stack_ = static_cast<char*>(mapped) + guard_bytes;
}

simt_fiber::~simt_fiber() {
    munmap(static_cast<char*>(stack_) - guard_bytes, stack_bytes + guard_bytes);
}

void simt_fiber::start(void (*entry)()) {
#ifdef SIMT_ASAN
    __asan_unpoison_memory_region(stack_, stack_bytes);
#endif
    entry_ = entry;
    fake_stack_ = nullptr;
    auto* top = reinterpret_cast<uintptr_t*>(static_cast<char*>(stack_) + stack_bytes);
    *--top = 0; // two words, so that the stack is aligned to 16 bytes at moira_simt_first's call
    *--top = 0;
    *--top = reinterpret_cast<uintptr_t>(&moira_simt_first);
    *--top = 0;                                             // rbp: ends backtraces
    *--top = 0;                                             // rbx
    *--top = reinterpret_cast<uintptr_t>(this);             // r12
    *--top = reinterpret_cast<uintptr_t>(&simt_fiber_main); // r13
    *--top = 0;                                             // r14
    *--top = 0;                                             // r15
    pointer_ = top;
}

void simt_fiber::enter() {
#ifdef SIMT_ASAN
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, stack_, stack_bytes);
#endif
    moira_simt_switch(&scheduler_pointer_, pointer_);
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void simt_fiber::leave([[maybe_unused]] bool last) {
#ifdef SIMT_ASAN
    __sanitizer_start_switch_fiber(last ? nullptr : &fake_stack_, scheduler_stack_, scheduler_stack_bytes_);
#endif
    moira_simt_switch(&pointer_, scheduler_pointer_);
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(fake_stack_, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
}

void simt_fiber::main(simt_fiber* fiber) {
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &fiber->scheduler_stack_, &fiber->scheduler_stack_bytes_);
#endif
    fiber->entry_();
    std::abort(); // entry left for good
}

} // namespace moira
