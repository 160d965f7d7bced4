#include "core/experts/arena_populator.hpp"
#include "core/experts/slab_arena.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <thread>
#include <vector>

using namespace moira;

namespace {

constexpr std::uint64_t piece = arena_populator::piece_bytes;

/// Zero-filled addresses that begin with a huge page.
struct address_range {
    explicit address_range(std::uint64_t wanted) : bytes(wanted) {
        mapping = ::mmap(nullptr, bytes + piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(mapping != MAP_FAILED);
        const auto address = reinterpret_cast<std::uintptr_t>(mapping);
        base = reinterpret_cast<std::byte*>((address + piece - 1) / piece * piece);
    }
    ~address_range() { ::munmap(mapping, bytes + piece); }

    std::uint64_t resident_bytes() const {
        std::vector<unsigned char> pages(bytes / 4096);
        REQUIRE(::mincore(base, bytes, pages.data()) == 0);
        std::uint64_t count = 0;
        for (const unsigned char page : pages)
            count += page & 1U;
        return count * 4096;
    }

    void* mapping = nullptr;
    std::byte* base = nullptr;
    std::uint64_t bytes;
};

/// The populator's thread has all the time it wants; what is waited for must come.
template <class Condition>
bool comes_true(Condition condition) {
    for (int tries = 0; tries < 20'000; ++tries) {
        if (condition())
            return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
}

bool populates() {
    address_range trial(piece);
    return ::madvise(trial.base, piece, 23) == 0;
}

} // namespace

TEST_CASE("pages are made ready only after the first use, and no further than what is usable") {
    if (!populates())
        return; // before Linux 5.14
    address_range range(8 * piece);
    arena_populator populator(range.base);
    populator.set_usable(5 * piece + 4096);
    CHECK(range.resident_bytes() == 0);
    populator.use(1);
    CHECK(comes_true([&] { return populator.ready_bytes() == 5 * piece; }));
    CHECK(range.resident_bytes() == 5 * piece);
}

TEST_CASE("the lead above what is in use is bounded") {
    if (!populates())
        return;
    constexpr std::uint64_t lead = arena_populator::lead_bytes;
    address_range range(lead + 4 * piece);
    arena_populator populator(range.base);
    populator.set_usable(lead + 4 * piece);
    populator.use(piece);
    REQUIRE(comes_true([&] { return populator.ready_bytes() == lead + piece; }));
    populator.use(2 * piece);
    CHECK(comes_true([&] { return populator.ready_bytes() == lead + 2 * piece; }));
    CHECK(range.resident_bytes() == lead + 2 * piece);
}

TEST_CASE("contents stay as they are") {
    address_range range(4 * piece);
    std::memset(range.base, 7, 3 * piece);
    arena_populator populator(range.base);
    populator.set_usable(4 * piece);
    populator.use(piece);
    comes_true([&] { return !populates() || populator.ready_bytes() == 4 * piece; });
    CHECK(std::all_of(range.base, range.base + 3 * piece, [](std::byte value) { return value == std::byte{7}; }));
}

TEST_CASE("memory that an arena gave back is not made ready again") {
    auto arena = slab_arena::create(64 * piece, 64 * piece);
    REQUIRE(arena);
    for (int round = 0; round < 50; ++round) {
        arena->use(1);
        arena->shrink(2 * piece);
        std::this_thread::sleep_for(std::chrono::microseconds(round * 10));
        std::vector<unsigned char> pages(62 * piece / 4096);
        REQUIRE(::mincore(arena->base() + 2 * piece, 62 * piece, pages.data()) == 0);
        CHECK(std::none_of(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1U) != 0; }));
        REQUIRE(arena->grow(64 * piece));
    }
}
