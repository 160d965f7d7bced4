#include "core/execute/gpu_facts.hpp"

#include <cstdio>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

using namespace moira;
namespace fs = std::filesystem;

namespace {

/// A folder that looks like the root of a machine, gone at the end.
struct machine {
    fs::path root = fs::temp_directory_path() / ("moira_gpu_facts_test_" + std::to_string(::getpid()));
    machine() { fs::remove_all(root); }
    ~machine() { fs::remove_all(root); }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;

    void write(const std::string& file, const std::string& text) const {
        fs::create_directories((root / file).parent_path());
        std::ofstream(root / file) << text;
    }
    void pci(const std::string& address, const std::string& vendor, const std::string& device,
             const std::string& device_class) const {
        const std::string folder = "sys/bus/pci/devices/" + address + "/";
        write(folder + "vendor", vendor);
        write(folder + "device", device);
        write(folder + "class", device_class);
    }
    moira_device_facts facts() const {
        moira_device_facts read{};
        read.struct_size = sizeof read;
        read_gpu_facts(root, read);
        return read;
    }
};

} // namespace

TEST_CASE("a machine without a bus, a driver or nodes has no GPU") {
    const moira_device_facts facts = machine().facts();
    CHECK(facts.gpus == 0);
    CHECK(facts.cuda_devices == 0);
    CHECK(facts.nvidia_driver == 0);
}

TEST_CASE("GPUs are told by vendor and class, in the order of their addresses") {
    const machine here;
    here.pci("0000:b1:00.0", "0x10de\n", "0x20b5\n", "0x030200\n");
    here.pci("0000:3b:00.0", "0x10de\n", "0x2330\n", "0x030200\n");
    here.pci("0000:3b:00.1", "0x10de\n", "0x22a3\n", "0x040300\n"); // its audio function
    here.pci("0000:04:00.0", "0x10de\n", "0x22a3\n", "0x068000\n"); // an NVSwitch
    here.pci("0000:02:00.0", "0x1a03\n", "0x2000\n", "0x030000\n"); // another vendor's display
    here.write("dev/nvidia0", "");
    here.write("dev/nvidia1", "");
    here.write("proc/driver/nvidia/version",
               "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 06:54:38 UTC 2025\n"
               "GCC version:  gcc version 12.2.0\n");
    const moira_device_facts facts = here.facts();
    REQUIRE(facts.gpus == 2);
    CHECK(facts.gpu[0].pci_device == 0x2330);
    CHECK(facts.gpu[0].pci_address == 0x3b00);
    CHECK(facts.gpu[1].pci_device == 0x20b5);
    CHECK(facts.cuda_devices == 2);
    CHECK(facts.nvidia_driver == 580);
}

TEST_CASE("more GPUs than the facts hold are cut, never written past") {
    const machine here;
    for (int bus = 0; bus < MOIRA_GPUS_MAX + 4; ++bus) {
        char address[32];
        std::snprintf(address, sizeof address, "0000:%02x:00.0", bus);
        here.pci(address, "0x10de", "0x2330", "0x030200");
    }
    CHECK(here.facts().gpus == MOIRA_GPUS_MAX);
}

TEST_CASE("files that make no sense mean no GPU") {
    const machine here;
    here.pci("not an address", "0x10de", "0x2330", "0x030200");
    here.pci("0000:3b:00.0", "10de", "0x2330", "0x030200");
    here.pci("0000:3c:00.0", "0x10de", "", "0x030200");
    here.pci("0000:3d:00.0", "0x10de", "0x2330", "");
    here.pci("0000:3e:00.0", std::string(100000, 'x'), "0x2330", "0x030200");
    CHECK(here.facts().gpus == 0);
}

TEST_CASE("the driver's version is found in the texts of both kernel modules") {
    CHECK(nvidia_driver_major("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Release Build") ==
          575);
    CHECK(nvidia_driver_major("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12") == 535);
    for (const char* text : {"", " ", "NVRM version", "NVRM 580", "NVRM 99999999999.1", "NVRM x86_64 ."})
        CHECK(nvidia_driver_major(text) == 0);
}
