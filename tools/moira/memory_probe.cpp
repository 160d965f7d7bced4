#include "tools/moira/memory_probe.hpp"

#include "core/experts/available_memory.hpp"
#include "tools/moira/memory_probe_kernels.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <sys/mman.h>
#include <utility>

namespace moira {

namespace {

read_kernel_list kernels_of_this_machine() {
#ifdef MOIRA_PROBE_X86
    const auto features = read_device_facts().cpu_features;
    if ((features & MOIRA_CPU_AVX512_F_BW_VL_DQ) != 0)
        return read_kernels_avx512();
    if ((features & MOIRA_CPU_AVX2_FMA_F16C) != 0)
        return read_kernels_avx2();
#endif
    return read_kernels_scalar();
}

/// One pass of all members, each over its own part.
struct probe_pass {
    unsigned char* begin = nullptr;
    std::uint64_t bytes = 0;
    read_kernel read = nullptr;
    std::atomic<std::uint64_t> checksum{0};
    std::atomic<std::uint64_t> bytes_read{0};
};

std::uint64_t part_bytes(const probe_pass& pass, const moira_team_member& member) {
    return pass.bytes / member.size / read_kernel_step_bytes * read_kernel_step_bytes;
}

void read_part(void* argument, const moira_team_member* member) {
    auto& pass = *static_cast<probe_pass*>(argument);
    const auto bytes = part_bytes(pass, *member);
    pass.checksum += pass.read(pass.begin + member->rank * bytes, bytes);
    pass.bytes_read += bytes;
}

/// Pages that were never written may all be the same page of zeros.
void touch_part(void* argument, const moira_team_member* member) {
    auto& pass = *static_cast<probe_pass*>(argument);
    const auto bytes = part_bytes(pass, *member);
    std::memset(pass.begin + member->rank * bytes, 1, bytes);
}

} // namespace

std::uint64_t probe_buffer_bytes(std::uint64_t bytes_wanted, std::uint64_t available_bytes, std::uint32_t threads) {
    auto bytes = bytes_wanted;
    if (available_bytes > 0)
        bytes = std::min(bytes, available_bytes / 2);
    const auto granules = bytes / memory_probe::buffer_granule_bytes;
    return std::max<std::uint64_t>(granules, threads) * memory_probe::buffer_granule_bytes;
}

result<memory_probe> memory_probe::create(compute_pool& pool, std::uint64_t bytes_wanted) {
    memory_probe probe;
    probe.pool_ = &pool;
    probe.bytes_ = probe_buffer_bytes(bytes_wanted, available_memory_bytes(), pool.size());
    const auto mapping_bytes = probe.bytes_ + buffer_granule_bytes;
    void* mapping = ::mmap(nullptr, mapping_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED)
        return fail(errc::out_of_memory, "the system refused " + std::to_string(mapping_bytes) +
                                             " bytes for the memory probe: give a smaller --probe-mib");
    probe.mapping_ = mapping;
    probe.mapping_bytes_ = mapping_bytes;
    const auto address = reinterpret_cast<std::uintptr_t>(mapping);
    const auto aligned = (address + buffer_granule_bytes - 1) / buffer_granule_bytes * buffer_granule_bytes;
    probe.begin_ = static_cast<unsigned char*>(mapping) + (aligned - address);
    ::madvise(probe.begin_, probe.bytes_, MADV_HUGEPAGE); // a wish, as for the memory of experts
    probe_pass pass;
    pass.begin = probe.begin_;
    pass.bytes = probe.bytes_;
    pool.run(0, &touch_part, &pass);
    return probe;
}

memory_probe::~memory_probe() {
    if (mapping_)
        ::munmap(mapping_, mapping_bytes_);
}

memory_probe::memory_probe(memory_probe&& other) noexcept {
    *this = std::move(other);
}

memory_probe& memory_probe::operator=(memory_probe&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(mapping_, other.mapping_);
    std::swap(mapping_bytes_, other.mapping_bytes_);
    std::swap(begin_, other.begin_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

memory_probe::reading memory_probe::measure() {
    reading best;
    const auto list = kernels_of_this_machine();
    for (std::uint32_t i = 0; i < list.count; ++i) {
        probe_pass pass;
        pass.begin = begin_;
        pass.bytes = bytes_;
        pass.read = list.kernels[i].read;
        const auto start = std::chrono::steady_clock::now();
        pool_->run(0, &read_part, &pass);
        const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        const auto gb_s = seconds > 0 ? static_cast<double>(pass.bytes_read.load()) / seconds / 1e9 : 0.0;
        if (gb_s > best.gb_s)
            best = {gb_s, list.kernels[i].name};
    }
    return best;
}

result<double> probe_memory(compute_pool& pool, std::uint64_t resident_bytes) {
    // A quarter of a second on two cores of today's servers.
    constexpr std::uint64_t buffer_bytes_max = std::uint64_t{512} << 20;
    constexpr int passes = 3;
    auto probe = memory_probe::create(pool, std::min(resident_bytes, buffer_bytes_max));
    if (!probe)
        return tl::unexpected(probe.error());
    double best = 0;
    for (int pass = 0; pass < passes; ++pass)
        best = std::max(best, probe->measure().gb_s);
    return best;
}

} // namespace moira
