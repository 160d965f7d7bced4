#include "core/execute/compute_pool.hpp"
#include "core/execute/cpu_quota.hpp"
#include "core/execute/op_provider.hpp"

#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

using namespace moira;
namespace fs = std::filesystem;

namespace {

/// A folder that looks like /sys/fs/cgroup, gone at the end.
struct control_groups {
    fs::path mount = fs::temp_directory_path() / ("moira_cgroup_test_" + std::to_string(::getpid()));
    control_groups() { fs::remove_all(mount); }
    ~control_groups() { fs::remove_all(mount); }
    control_groups(const control_groups&) = delete;
    control_groups& operator=(const control_groups&) = delete;

    void write(const std::string& file, const std::string& text) const {
        fs::create_directories((mount / file).parent_path());
        std::ofstream(mount / file) << text << '\n';
    }
};

} // namespace

TEST_CASE("facts: at least one core, and AVX-512 only with AVX2") {
    const moira_device_facts facts = read_device_facts();
    CHECK(facts.struct_size == sizeof facts);
    CHECK(facts.cpu_cores >= 1);
    if (facts.cpu_features & MOIRA_CPU_AVX512_F_BW_VL_DQ)
        CHECK((facts.cpu_features & MOIRA_CPU_AVX2_FMA_F16C) != 0);
}

TEST_CASE("facts agree with what the kernel prints") {
    std::ifstream in("/proc/cpuinfo");
    std::string line;
    while (std::getline(in, line) && !line.starts_with("flags"))
        continue;
    if (line.empty())
        return; // another architecture
    line += ' ';
    const auto has = [&](const char* flag) { return line.find(' ' + std::string(flag) + ' ') != std::string::npos; };
    const std::uint32_t features = read_device_facts().cpu_features;
    CHECK(((features & MOIRA_CPU_AVX2_FMA_F16C) != 0) == (has("avx2") && has("fma") && has("f16c")));
    CHECK(((features & MOIRA_CPU_AVX512_F_BW_VL_DQ) != 0) ==
          (has("avx512f") && has("avx512bw") && has("avx512vl") && has("avx512dq")));
    CHECK(((features & MOIRA_CPU_AVX512_BF16) != 0) == has("avx512_bf16"));
    CHECK(((features & MOIRA_CPU_AVX512_VBMI) != 0) == has("avx512vbmi"));
    CHECK(((features & MOIRA_CPU_AVX512_VNNI) != 0) == has("avx512_vnni"));
}

TEST_CASE("a cgroup v2 quota counts, on the way up to the root, rounded down to whole cores") {
    const control_groups groups;
    CHECK(cpu_quota_cores(groups.mount, "0::/a/b\n") == 0);
    groups.write("a/b/cpu.max", "max 100000");
    CHECK(cpu_quota_cores(groups.mount, "0::/a/b\n") == 0);
    groups.write("a/cpu.max", "350000 100000");
    CHECK(cpu_quota_cores(groups.mount, "0::/a/b\n") == 3);
    groups.write("a/b/cpu.max", "20000 100000");
    CHECK(cpu_quota_cores(groups.mount, "0::/a/b\n") == 1);
    CHECK(cpu_quota_cores(groups.mount, "0::/elsewhere\n") == 0);
}

TEST_CASE("inside a container the mount's own file counts") {
    const control_groups groups;
    groups.write("cpu.max", "200000 100000");
    CHECK(cpu_quota_cores(groups.mount, "0::/docker/not/visible\n") == 2);
}

TEST_CASE("a cgroup v1 quota counts, for the cpu controller alone") {
    const control_groups groups;
    groups.write("cpu,cpuacct/job/cpu.cfs_quota_us", "400000");
    groups.write("cpu,cpuacct/job/cpu.cfs_period_us", "100000");
    CHECK(cpu_quota_cores(groups.mount, "5:memory:/job\n4:cpu,cpuacct:/job\n0::/\n") == 4);
    CHECK(cpu_quota_cores(groups.mount, "4:cpuset:/job\n") == 0);
    groups.write("cpu,cpuacct/job/cpu.cfs_quota_us", "-1");
    CHECK(cpu_quota_cores(groups.mount, "4:cpu,cpuacct:/job\n") == 0);
}

TEST_CASE("control group files that make no sense are no limit") {
    const control_groups groups;
    groups.write("a/cpu.max", "garbage");
    groups.write("b/cpu.max", "100000 0");
    groups.write("c/cpu.max", "-5 100000");
    for (const char* self : {"", "\n\n", "nothing", "0:", "0::/a", "0::/b", "0::/c", "0::/../../../.."})
        CHECK(cpu_quota_cores(groups.mount, self) == 0);
}

TEST_CASE("every op has a name of its own, and no other number has one") {
    CHECK(std::string(op_name(MOIRA_OP_EMBEDDING)) == "embedding");
    CHECK(std::string(op_name(MOIRA_OP_KV_APPEND)) == "kv_append");
    CHECK(std::string(op_name(MOIRA_OP_ATTENTION_MLA)) == "attention_mla");
    CHECK(std::string(op_name(MOIRA_OP_EXPERT_FFN)) == "expert_ffn");
    CHECK(std::string(op_name(MOIRA_OP_COMBINE)) == "combine");
    CHECK(std::string(op_name(MOIRA_OP_COUNT)) == "unknown");
    CHECK(std::string(op_name(UINT32_MAX)) == "unknown");
}
