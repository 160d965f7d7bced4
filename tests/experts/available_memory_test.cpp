#include "core/experts/available_memory.hpp"
#include "tests/experts/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <fstream>

using namespace moira;

namespace {

void put(const std::filesystem::path& file, const std::string& text) {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
}

} // namespace

TEST_CASE("available memory is what the kernel tells when no cgroup limits it") {
    const temporary_folder root;
    CHECK(available_memory_bytes(root.path()) == 0);
    put(root.path() / "proc/meminfo", "MemTotal:  9000 kB\nMemAvailable:    5000 kB\n");
    CHECK(available_memory_bytes(root.path()) == 5000 * 1024);
    put(root.path() / "proc/self/cgroup", "0::/\n");
    put(root.path() / "sys/fs/cgroup/memory.max", "max\n");
    put(root.path() / "sys/fs/cgroup/memory.current", "1000\n");
    CHECK(available_memory_bytes(root.path()) == 5000 * 1024);
    put(root.path() / "proc/meminfo", "MemAvailable: many\n");
    CHECK(available_memory_bytes(root.path()) == 0);
    CHECK(available_memory_bytes() > 0);
}

TEST_CASE("the tightest cgroup on the way counts, droppable file pages being available") {
    const temporary_folder root;
    put(root.path() / "proc/meminfo", "MemAvailable:    5000 kB\n");
    SUBCASE("version 2") {
        put(root.path() / "proc/self/cgroup", "0::/outer/inner\n");
        put(root.path() / "sys/fs/cgroup/outer/memory.max", "100000\n");
        put(root.path() / "sys/fs/cgroup/outer/memory.current", "70000\n");
        put(root.path() / "sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 20000\n");
        put(root.path() / "sys/fs/cgroup/outer/inner/memory.max", "200000\n");
        put(root.path() / "sys/fs/cgroup/outer/inner/memory.current", "10000\n");
        CHECK(available_memory_bytes(root.path()) == 50000);
    }
    SUBCASE("version 1") {
        put(root.path() / "proc/self/cgroup", "3:cpu,cpuacct:/other\n4:memory:/group\nnonsense\n:\n");
        put(root.path() / "sys/fs/cgroup/memory/group/memory.limit_in_bytes", "100000\n");
        put(root.path() / "sys/fs/cgroup/memory/group/memory.usage_in_bytes", "130000\n");
        CHECK(available_memory_bytes(root.path()) == 0);
        put(root.path() / "sys/fs/cgroup/memory/group/memory.stat", "cache 5\ntotal_inactive_file 90000\n");
        CHECK(available_memory_bytes(root.path()) == 60000);
    }
}
