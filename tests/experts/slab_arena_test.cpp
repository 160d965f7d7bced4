#include "core/experts/slab_arena.hpp"

#include <cstring>
#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("an arena grows and shrinks in place and forgets what it gave back") {
    constexpr std::uint64_t mebibyte = 1ULL << 20;
    auto arena = slab_arena::create(mebibyte, 64 * mebibyte);
    REQUIRE(arena);
    CHECK(reinterpret_cast<std::uintptr_t>(arena->base()) % slab_arena::alignment == 0);
    CHECK(arena->usable_bytes() == mebibyte);
    std::byte* const base = arena->base();
    std::memset(base, 1, mebibyte);
    REQUIRE(arena->grow(3 * mebibyte));
    CHECK(arena->base() == base);
    CHECK(base[mebibyte - 1] == std::byte{1});
    CHECK(base[3 * mebibyte - 1] == std::byte{0});
    std::memset(base, 2, 3 * mebibyte);
    arena->shrink(2 * mebibyte);
    CHECK(arena->usable_bytes() == 2 * mebibyte);
    CHECK(base[2 * mebibyte - 1] == std::byte{2});
    REQUIRE(arena->grow(3 * mebibyte));
    CHECK(base[2 * mebibyte] == std::byte{0});
}

TEST_CASE("an arena refuses more than its capacity and more than an address space") {
    auto arena = slab_arena::create(4096, 8192);
    REQUIRE(arena);
    const auto grown = arena->grow(arena->capacity_bytes() + 1);
    REQUIRE_FALSE(grown);
    CHECK(grown.error().code == errc::out_of_memory);
    const auto huge = slab_arena::create(1, ~0ULL);
    REQUIRE_FALSE(huge);
    CHECK(huge.error().code == errc::invalid_argument);
    const auto absurd = slab_arena::create(1ULL << 55, 1ULL << 55);
    REQUIRE_FALSE(absurd);
    CHECK(absurd.error().code == errc::out_of_memory);
}
