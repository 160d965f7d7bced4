#include "core/experts/locked_memory.hpp"

#include "core/experts/slab_arena.hpp"
#include "tests/support/memory_lock_limit.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>

using namespace moira;

namespace {

constexpr std::uint64_t kib = 1024;

/// As on a system with swap, within a limit that is small everywhere.
struct swapping_system {
    memory_lock_limit limit{64 * kib};
    swapping_system() { assume_swap(true); }
    ~swapping_system() { assume_swap({}); }
};

struct mapping {
    std::uint64_t bytes;
    void* begin;
    explicit mapping(std::uint64_t wanted)
        : bytes(wanted), begin(::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        REQUIRE(begin != MAP_FAILED);
    }
    ~mapping() { ::munmap(begin, bytes); }
};

} // namespace

TEST_CASE("memory within the limit is locked, as the kernel counts it, until it is unmapped") {
    const swapping_system system;
    const auto before = locked_bytes_of_process();
    {
        const mapping memory(32 * kib);
        CHECK(lock_memory(memory.begin, memory.bytes));
        CHECK(locked_bytes_of_process() == before + 32 * kib);
    }
    CHECK(locked_bytes_of_process() == before);
}

TEST_CASE("memory beyond the limit is refused, and the sentence for the log names both") {
    const swapping_system system;
    const auto before = locked_bytes_of_process();
    const mapping memory(4096 * kib);
    CHECK_FALSE(lock_memory(memory.begin, memory.bytes));
    CHECK(locked_bytes_of_process() == before);
    const auto sentence = lock_refusal("dense weights", memory.bytes);
    for (const char* part : {"4 MiB of dense weights", "64 KiB", "ulimit -l"})
        CHECK_MESSAGE(sentence.find(part) != std::string::npos, sentence);
}

TEST_CASE("without swap nothing needs to be locked, whatever the limit") {
    const swapping_system system;
    assume_swap(false);
    const auto before = locked_bytes_of_process();
    const mapping memory(4096 * kib);
    CHECK(lock_memory(memory.begin, memory.bytes));
    CHECK(locked_bytes_of_process() == before);
}

TEST_CASE("an arena says how much of it is not locked") {
    const swapping_system system;
    auto arena = slab_arena::create(32 * kib, 1024 * kib);
    REQUIRE(arena);
    CHECK(arena->unlocked_bytes() == 0);
    REQUIRE(arena->grow(512 * kib));
    CHECK(arena->unlocked_bytes() == arena->usable_bytes());
}
