#include "core/execute/compute_pool.hpp"
#include "core/execute/cpu_quota.hpp"
#include "core/execute/gpu_facts.hpp"

#include <algorithm>
#include <exception>
#include <fstream>
#include <iterator>
#include <sched.h>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace moira {
namespace {

#if defined(__x86_64__)

constexpr bool bit(std::uint32_t word, int index) {
    return (word >> index & 1) != 0;
}

/// Which register files the operating system saves (Intel SDM volume 1, section 13.3).
std::uint32_t read_xcr0() {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/// Bits of CPUID leaves 1 and 7 (Intel SDM volume 2, CPUID).
std::uint32_t read_cpu_features() {
    std::uint32_t a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    const bool fma_f16c = bit(c, 12) && bit(c, 29) && bit(c, 28);
    if (!bit(c, 27) || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;                             // no OSXSAVE: xgetbv would trap
    constexpr std::uint32_t ymm_saved = 0x6;  // SSE and AVX state
    constexpr std::uint32_t zmm_saved = 0xe6; // and masks, upper halves, registers 16 to 31
    const std::uint32_t xcr0 = read_xcr0();
    std::uint32_t features = 0;
    if ((xcr0 & ymm_saved) == ymm_saved && fma_f16c && bit(b, 5))
        features |= MOIRA_CPU_AVX2_FMA_F16C;
    if ((xcr0 & zmm_saved) != zmm_saved)
        return features;
    if (bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31))
        features |= MOIRA_CPU_AVX512_F_BW_VL_DQ;
    if (bit(c, 1))
        features |= MOIRA_CPU_AVX512_VBMI;
    if (bit(c, 11))
        features |= MOIRA_CPU_AVX512_VNNI;
    const std::uint32_t subleaves = a;
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && bit(a, 5))
        features |= MOIRA_CPU_AVX512_BF16;
    return features;
}

#else

std::uint32_t read_cpu_features() {
    return 0;
}

#endif

std::uint32_t cores_by_affinity() {
    // The kernel refuses a mask that is too small for the machine: grow up to 2^16 processors.
    for (std::size_t processors = 1024; processors <= 65536; processors *= 4) {
        std::vector<cpu_set_t> mask(processors / CPU_SETSIZE);
        const std::size_t bytes = mask.size() * sizeof(cpu_set_t);
        if (sched_getaffinity(0, bytes, mask.data()) == 0)
            return static_cast<std::uint32_t>(CPU_COUNT_S(bytes, mask.data()));
    }
    return std::thread::hardware_concurrency();
}

std::uint32_t read_cpu_cores() {
    std::ifstream in("/proc/self/cgroup");
    const std::string self((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const std::uint32_t quota = cpu_quota_cores("/sys/fs/cgroup", self);
    const std::uint32_t cores = std::max(1u, cores_by_affinity());
    return quota == 0 ? cores : std::min(cores, quota);
}

} // namespace

moira_device_facts read_device_facts() noexcept {
    moira_device_facts facts{};
    facts.struct_size = sizeof facts;
    facts.cpu_features = read_cpu_features();
    facts.cpu_cores = 1;
    try {
        facts.cpu_cores = read_cpu_cores();
        read_gpu_facts("/", facts);
    } catch (const std::exception&) {
        // Out of memory while reading a small file: one core and no device are always true enough.
    }
    return facts;
}

} // namespace moira
