#include "core/experts/slab_arena.hpp"

#include "core/base/checked.hpp"
#include "core/experts/available_memory.hpp"
#include "core/experts/locked_memory.hpp"

#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace moira {
namespace {

std::uint64_t page_bytes() noexcept {
    static const auto bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return bytes;
}

std::string refusal(std::uint64_t bytes) {
    return "the system refused " + std::to_string(bytes) + " bytes for expert slots (" + std::strerror(errno) +
           "): lower the experts' memory budget";
}

} // namespace

result<slab_arena> slab_arena::create(std::uint64_t bytes, std::uint64_t bytes_max) {
    // Above this, rounding up to pages and adding the alignment could overflow; no address space is that large.
    constexpr std::uint64_t reserve_bytes_max = 1ULL << 56;
    if (bytes > bytes_max || bytes_max > reserve_bytes_max)
        return fail(errc::invalid_argument, "an arena of " + std::to_string(bytes) + " of at most " +
                                                std::to_string(bytes_max) + " bytes cannot exist");
    slab_arena arena;
    for (const std::uint64_t wanted : {bytes_max, bytes}) {
        const std::uint64_t capacity = round_up(wanted, page_bytes());
        // Inaccessible memory costs addresses only; it is not charged until grow() opens it.
        void* mapping = ::mmap(nullptr, capacity + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapping == MAP_FAILED)
            continue;
        arena.mapping_ = mapping;
        arena.mapping_bytes_ = capacity + alignment;
        arena.base_ =
            reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::uintptr_t>(mapping), std::uint64_t{alignment}));
        arena.capacity_bytes_ = capacity;
        break;
    }
    if (!arena.mapping_)
        return fail(errc::out_of_memory, refusal(bytes));
    ::madvise(arena.base_, arena.capacity_bytes_, MADV_HUGEPAGE); // a wish: fewer TLB misses in the kernels
    arena.populator_ = std::make_unique<arena_populator>(arena.base_);
    if (auto grown = arena.grow(bytes); !grown)
        return tl::unexpected(grown.error());
    return arena;
}

slab_arena::slab_arena(slab_arena&& other) noexcept {
    *this = std::move(other);
}

slab_arena& slab_arena::operator=(slab_arena&& other) noexcept {
    std::swap(mapping_, other.mapping_);
    std::swap(mapping_bytes_, other.mapping_bytes_);
    std::swap(base_, other.base_);
    std::swap(capacity_bytes_, other.capacity_bytes_);
    std::swap(usable_bytes_, other.usable_bytes_);
    std::swap(locked_, other.locked_);
    std::swap(populator_, other.populator_);
    return *this;
}

slab_arena::~slab_arena() {
    populator_.reset();
    if (mapping_)
        ::munmap(mapping_, mapping_bytes_);
}

std::uint64_t slab_arena::available_bytes() const {
    return available_memory_bytes();
}

result<void> slab_arena::grow(std::uint64_t bytes) {
    if (bytes > capacity_bytes_)
        return fail(errc::out_of_memory, "the expert arena has addresses for " + std::to_string(capacity_bytes_) +
                                             " bytes, not " + std::to_string(bytes) +
                                             ": the address space was limited at start; restart with the new budget");
    const std::uint64_t wanted = round_up(bytes, page_bytes());
    if (wanted <= usable_bytes_)
        return {};
    if (::mprotect(base_ + usable_bytes_, wanted - usable_bytes_, PROT_READ | PROT_WRITE) != 0)
        return fail(errc::out_of_memory, refusal(bytes));
    locked_ = lock_memory(base_ + usable_bytes_, wanted - usable_bytes_) && locked_;
    usable_bytes_ = wanted;
    populator_->set_usable(wanted);
    return {};
}

void slab_arena::shrink(std::uint64_t bytes) noexcept {
    const std::uint64_t kept = round_up(bytes, page_bytes());
    if (kept >= usable_bytes_)
        return;
    populator_->set_usable(kept);
    ::munlock(base_ + kept, usable_bytes_ - kept); // locked pages cannot be given back
    ::madvise(base_ + kept, usable_bytes_ - kept, MADV_DONTNEED);
    ::mprotect(base_ + kept, usable_bytes_ - kept, PROT_NONE);
    usable_bytes_ = kept;
}

} // namespace moira
