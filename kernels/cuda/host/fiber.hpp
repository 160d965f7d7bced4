// A stack of its own for every CUDA thread of a block, and the switch between them (x86-64, System V).
#pragma once

#include <cstddef>
#include <cstdint>

namespace moira {

class simt_fiber {
public:
    simt_fiber();
    ~simt_fiber();
    simt_fiber(const simt_fiber&) = delete;
    simt_fiber& operator=(const simt_fiber&) = delete;

    // Begins anew; whatever ran here is forgotten without unwinding. `entry` must end in leave(true).
    void start(void (*entry)());
    // From the scheduler: runs the fiber until it leaves.
    void enter();
    // From the fiber: back to the scheduler. `last`: it is never entered again.
    void leave(bool last);

    bool owns(const void* address) const { return uintptr_t(address) - uintptr_t(stack_) < stack_bytes; }

    // Device code keeps little on the stack; address sanitizer frames and findings' text need the most.
    static constexpr size_t stack_bytes = 128 * 1024;

private:
    void* stack_;
    void* pointer_ = nullptr;           // saved stack pointer while not running
    void* scheduler_pointer_ = nullptr; // the scheduler's, while running
    // The address sanitizer's.
    [[maybe_unused]] void* fake_stack_ = nullptr;
    [[maybe_unused]] const void* scheduler_stack_ = nullptr;
    [[maybe_unused]] size_t scheduler_stack_bytes_ = 0;
    void (*entry_)() = nullptr;

    static void main(simt_fiber* fiber);
    friend void simt_fiber_main(simt_fiber*);
};

} // namespace moira
