#include "tools/moira/memory_probe.hpp"

#include "tools/moira/memory_probe_kernels.hpp"

#include <cstdlib>
#include <doctest/doctest.h>
#include <memory>
#include <set>
#include <string>
#include <vector>

using namespace moira;

namespace {

constexpr std::uint64_t mib = 1 << 20;

struct release_memory {
    void operator()(unsigned char* memory) const { std::free(memory); }
};

std::vector<read_kernel_list> usable_lists() {
    std::vector<read_kernel_list> lists{read_kernels_scalar()};
#if defined(__x86_64__)
    const auto features = read_device_facts().cpu_features;
    if ((features & MOIRA_CPU_AVX2_FMA_F16C) != 0)
        lists.push_back(read_kernels_avx2());
    if ((features & MOIRA_CPU_AVX512_F_BW_VL_DQ) != 0)
        lists.push_back(read_kernels_avx512());
#endif
    return lists;
}

} // namespace

TEST_CASE("every read loop reads every word of its range and none beyond") {
    constexpr std::uint64_t bytes = 3 * read_kernel_step_bytes;
    // Exactly as large as what is read: a sanitizer sees a load beyond it.
    const std::unique_ptr<unsigned char, release_memory> memory(
        static_cast<unsigned char*>(std::aligned_alloc(64, bytes)));
    auto* words = reinterpret_cast<std::uint64_t*>(memory.get());
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < bytes / 8; ++i)
        sum += words[i] = (i + 1) * 0x9e3779b97f4a7c15u;
    for (const auto& list : usable_lists())
        for (std::uint32_t i = 0; i < list.count; ++i)
            CHECK_MESSAGE(list.kernels[i].read(memory.get(), bytes) == sum, list.kernels[i].name);
}

TEST_CASE("read loops have names of their own") {
    std::set<std::string> names;
    std::size_t count = 0;
    for (const auto& list : usable_lists())
        for (std::uint32_t i = 0; i < list.count; ++i, ++count)
            names.insert(list.kernels[i].name);
    CHECK(names.size() == count);
}

TEST_CASE("the probe takes at most half of the free memory, whole granules, and something for each thread") {
    CHECK(probe_buffer_bytes(2048 * mib, 16384 * mib, 2) == 2048 * mib);
    CHECK(probe_buffer_bytes(2048 * mib, 1024 * mib, 2) == 512 * mib);
    CHECK(probe_buffer_bytes(2048 * mib, 0, 2) == 2048 * mib);
    CHECK(probe_buffer_bytes(7 * mib, 0, 2) == 6 * mib);
    CHECK(probe_buffer_bytes(1 * mib, 0, 4) == 8 * mib);
}

TEST_CASE("a probe says how fast and which loop, and can be moved") {
    compute_pool pool({2, 0});
    auto made = memory_probe::create(pool, 4 * mib);
    REQUIRE(made);
    memory_probe probe(std::move(*made));
    const auto reading = probe.measure();
    CHECK(probe.bytes() == 4 * mib);
    CHECK(reading.gb_s > 0);
    CHECK_FALSE(reading.kernel.empty());
}
