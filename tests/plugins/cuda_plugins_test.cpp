// The built CUDA plugins on the machine that runs the tests: with a GPU they open, without one they say so and disturb
// nobody.
#include "core/execute/compute_pool.hpp"
#include "plugins/plugin_file.hpp"
#include "plugins/plugin_host.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <fstream>
#include <string>

using namespace moira;

namespace {

constexpr const char* names[] = {"cuda_sm80", "cuda_sm90", "cuda_sm100"};

std::filesystem::path file_of(const std::string& name) {
    return std::filesystem::path(MOIRA_BUILD_PLUGINS) / (name + ".so");
}

moira_device_facts pretended(std::uint32_t pci_device) {
    moira_device_facts facts = read_device_facts();
    facts.cuda_devices = 1;
    facts.nvidia_driver = 580;
    facts.gpus = 1;
    facts.gpu[0] = {pci_device, 0x100};
    return facts;
}

int score(const char* name, std::uint32_t pci_device) {
    return probe_plugin(file_of(name), pretended(pci_device)).found.score;
}

/// Whether anything of NVIDIA's driver or libraries is mapped into this process.
bool driver_mapped() {
    std::ifstream maps("/proc/self/maps");
    std::string line;
    while (std::getline(maps, line))
        if (line.find("libcuda.so") != std::string::npos || line.find("libcublas") != std::string::npos)
            return true;
    return false;
}

} // namespace

TEST_CASE("the built plugins take the chips that their code runs on") {
    constexpr std::uint32_t a100 = 0x20b5, h100 = 0x2330, b200 = 0x2901, v100 = 0x1db1;
    CHECK(score("cuda_sm80", a100) > 0);
    CHECK(score("cuda_sm90", a100) == 0);
    CHECK(score("cuda_sm100", a100) == 0);
    CHECK(score("cuda_sm90", h100) > score("cuda_sm80", h100));
    CHECK(score("cuda_sm100", b200) > score("cuda_sm80", b200));
    CHECK(score("cuda_sm80", b200) > 0);
    for (const char* name : names)
        CHECK(score(name, v100) == 0);
}

TEST_CASE("probing maps no driver and no library of NVIDIA") {
    for (const char* name : names) {
        const plugin_file plugin = probe_plugin(file_of(name), read_device_facts());
        CHECK(plugin.found.name == name);
        CHECK(plugin.found.device_class == "cuda");
        CHECK(bool(plugin.open));
        CHECK_FALSE(plugin.found.reason.empty());
    }
    CHECK_FALSE(driver_mapped());
}

TEST_CASE("CPU plugins run beside them as if they were not there") {
    compute_pool pool({1, 0});
    const auto host = plugin_host::open({{MOIRA_BUILD_PLUGINS}, "cpu_reference", "cpu"}, pool);
    REQUIRE(host);
    CHECK((*host)->memory_provider().plugin == "cpu_reference");
}

TEST_CASE("opening without a suited GPU is an error with a reason, and with one it works") {
    compute_pool pool({1, 0});
    const moira_device_facts facts = read_device_facts();
    for (const char* name : names) {
        CAPTURE(name);
        const plugin_file plugin = probe_plugin(file_of(name), facts);
        const auto host = plugin_host::open({{MOIRA_BUILD_PLUGINS}, name, "cuda"}, pool);
        if (plugin.found.score <= 0) {
            REQUIRE_FALSE(host);
            CHECK(host.error().code == errc::op_missing);
        }
        // A probe that was too hopeful is told by the device itself.
        if (host)
            CHECK((*host)->memory_provider().device_class == "cuda");
    }
}

TEST_CASE("a device that is opened although there is none gives a status, words and no crash") {
    if (read_device_facts().cuda_devices > 0)
        return;
    compute_pool pool({1, 0});
    const plugin_host_services services(pool);
    for (const char* name : names) {
        const auto api = open_plugin(probe_plugin(file_of(name), pretended(0x2330)));
        REQUIRE(api);
        moira_device* device = nullptr;
        CHECK((*api)->device_open(&services.table(), 0, &device) == MOIRA_UNSUPPORTED);
        CHECK(device == nullptr);
        CHECK_FALSE(read_last_error(**api).empty());
    }
}
