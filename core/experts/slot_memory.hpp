#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <functional>
#include <memory>

namespace moira {

/// The memory of all slots of a store: one range of addresses that never moves, of which a prefix is usable. Growing
/// and shrinking keep the addresses and contents of what stays, so that leases survive a resize. One thread at a time.
class slot_memory {
public:
    virtual ~slot_memory() = default;

    /// Of slot 0. It may be memory of a device: only the store's source and kernels go there.
    virtual std::uint64_t address() const noexcept = 0;

    virtual std::uint64_t usable_bytes() const noexcept = 0;
    virtual std::uint64_t capacity_bytes() const noexcept = 0;

    /// Makes at least `bytes` usable. Errors: out_of_memory (the system refuses, or more than the capacity).
    virtual result<void> grow(std::uint64_t bytes) = 0;

    /// The first `bytes` are about to be written.
    virtual void use(std::uint64_t bytes) { static_cast<void>(bytes); }

    /// What lies above `bytes` is not used any more; its contents are lost.
    virtual void shrink(std::uint64_t bytes) noexcept = 0;

    /// Of the usable bytes: that the system may swap out although it should not, see lock_memory.
    virtual std::uint64_t unlocked_bytes() const noexcept { return 0; }

    /// By how much it can grow without taking memory that is not there; 0: nobody knows, or the capacity says it.
    virtual std::uint64_t available_bytes() const { return 0; }
};

/// Makes memory whose first `bytes` are usable, with a capacity of `bytes_max` if that is possible and of `bytes`
/// otherwise. Errors: out_of_memory, device_error.
using slot_memory_maker =
    std::function<result<std::unique_ptr<slot_memory>>(std::uint64_t bytes, std::uint64_t bytes_max)>;

} // namespace moira
