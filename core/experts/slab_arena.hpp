#pragma once

#include "core/base/error.hpp"
#include "core/experts/arena_populator.hpp"
#include "core/experts/slot_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace moira {

/// Slots in host memory. Zero-filled; asks for huge pages; locked where the system allows it.
class slab_arena final : public slot_memory {
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
    ~slab_arena() override;

    std::byte* base() const noexcept { return base_; }
    std::uint64_t address() const noexcept override { return reinterpret_cast<std::uintptr_t>(base_); }
    std::uint64_t usable_bytes() const noexcept override { return usable_bytes_; }
    std::uint64_t capacity_bytes() const noexcept override { return capacity_bytes_; }
    std::uint64_t unlocked_bytes() const noexcept override { return locked_ ? 0 : usable_bytes_; }
    std::uint64_t available_bytes() const override;
    result<void> grow(std::uint64_t bytes) override;

    /// Pages a little beyond are made ready meanwhile.
    void use(std::uint64_t bytes) override { populator_->use(bytes); }

    /// Gives whole pages above `bytes` back to the system.
    void shrink(std::uint64_t bytes) noexcept override;

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
