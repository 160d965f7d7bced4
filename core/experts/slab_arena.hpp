#pragma once

#include "core/base/error.hpp"
#include "core/experts/arena_populator.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace moira {

/// The host memory of all slots: one range of addresses that never moves, of which a prefix is usable. Growing and
/// shrinking keep the addresses and contents of what stays, so that leases survive a resize. Zero-filled; asks for huge
/// pages. One thread at a time.
class slab_arena {
public:
    /// Addresses are aligned to this: a huge page, more than any slab layout asks.
    static constexpr std::uint64_t alignment = 2ULL << 20;

    /// Usable bytes are whole pages of the system, which are no larger than this on any machine that runs Linux.
    static constexpr std::uint64_t page_bytes_max = 64ULL << 10;

    /// Reserves addresses for `bytes_max` (no memory) and makes the first `bytes` usable. Where the address space is
    /// limited, reserves only `bytes`; see capacity_bytes(). Errors: out_of_memory, invalid_argument (bytes >
    /// bytes_max).
    static result<slab_arena> create(std::uint64_t bytes, std::uint64_t bytes_max);

    slab_arena(slab_arena&& other) noexcept;
    slab_arena& operator=(slab_arena&& other) noexcept;
    slab_arena(const slab_arena&) = delete;
    slab_arena& operator=(const slab_arena&) = delete;
    ~slab_arena();

    std::byte* base() const noexcept { return base_; }
    std::uint64_t usable_bytes() const noexcept { return usable_bytes_; }
    std::uint64_t capacity_bytes() const noexcept { return capacity_bytes_; }

    /// Of the usable ones: that the system refuses to lock in memory, see lock_memory.
    std::uint64_t unlocked_bytes() const noexcept { return locked_ ? 0 : usable_bytes_; }

    /// Makes at least `bytes` usable. Errors: out_of_memory (the system refuses, or more than the capacity).
    result<void> grow(std::uint64_t bytes);

    /// The first `bytes` are about to be written: pages a little beyond are made ready meanwhile.
    void use(std::uint64_t bytes) { populator_->use(bytes); }

    /// Gives whole pages above `bytes` back to the system; their contents are lost.
    void shrink(std::uint64_t bytes) noexcept;

private:
    slab_arena() = default;

    void* mapping_ = nullptr; // what mmap gave, before alignment
    std::uint64_t mapping_bytes_ = 0;
    std::byte* base_ = nullptr;
    std::uint64_t capacity_bytes_ = 0;
    std::uint64_t usable_bytes_ = 0;
    bool locked_ = true;
    std::unique_ptr<arena_populator> populator_; // its thread stops before the mapping goes
};

} // namespace moira
