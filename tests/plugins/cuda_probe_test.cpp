// What the CUDA plugins say before anything is opened.
#include "plugins/cuda_runtime/cuda_runtime.hpp"
#include "plugins/cuda_runtime/gpu_chips.hpp"

#include <doctest/doctest.h>
#include <string>

using namespace moira;

namespace {

bool newer(uint32_t major, uint32_t) {
    return major >= 8;
}
bool hopper(uint32_t major, uint32_t minor) {
    return major == 9 && minor == 0;
}

const cuda_plugin sm80 = {"cuda_sm80", "compute capability 8.0 or newer", 60, newer, nullptr, nullptr};
const cuda_plugin sm90 = {"cuda_sm90", "compute capability 9.0", 90, hopper, nullptr, nullptr};

moira_device_facts machine(std::initializer_list<uint32_t> devices, uint32_t nodes, uint32_t driver) {
    moira_device_facts facts{};
    facts.struct_size = sizeof facts;
    facts.cuda_devices = nodes;
    facts.nvidia_driver = driver;
    for (const uint32_t device : devices)
        facts.gpu[facts.gpus++] = {device, facts.gpus};
    return facts;
}

moira_probe probed(const cuda_plugin& plugin, const moira_device_facts& facts) {
    moira_probe probe{};
    probe.struct_size = sizeof probe;
    REQUIRE(cuda_probe(plugin, &facts, &probe) == MOIRA_OK);
    CHECK(std::string(probe.name) == plugin.name);
    CHECK(std::string(probe.device_class) == "cuda");
    CHECK(probe.reason[0] != 0);
    return probe;
}

int score(const cuda_plugin& plugin, const moira_device_facts& facts) {
    return probed(plugin, facts).score;
}

constexpr uint32_t a100 = 0x20b5, h100 = 0x2330, h200 = 0x2335, l40 = 0x26b5, b200 = 0x2901, v100 = 0x1db1;
constexpr uint32_t unknown = 0xfff0;

} // namespace

TEST_CASE("chips are told by their PCI ids") {
    struct expectation {
        uint32_t id, major, minor;
    };
    for (const auto& [id, major, minor] : {expectation{a100, 8, 0},
                                           {h100, 9, 0},
                                           {h200, 9, 0},
                                           {l40, 8, 9},
                                           {b200, 10, 0},
                                           {v100, 7, 0},
                                           {0x2236, 8, 6},
                                           {0x3182, 10, 3},
                                           {0x2b85, 12, 0}}) {
        CAPTURE(id);
        REQUIRE(find_gpu_chip(id) != nullptr);
        CHECK(find_gpu_chip(id)->compute_major == major);
        CHECK(find_gpu_chip(id)->compute_minor == minor);
    }
    CHECK(find_gpu_chip(unknown) == nullptr);
    CHECK(find_gpu_chip(0) == nullptr);
}

TEST_CASE("without a GPU no CUDA plugin wants to run") {
    CHECK(score(sm80, machine({}, 0, 0)) == 0);
    CHECK(score(sm90, machine({}, 0, 0)) == 0);
}

TEST_CASE("each plugin takes the chips that its code runs on") {
    CHECK(score(sm80, machine({a100}, 1, 580)) == 60);
    CHECK(score(sm90, machine({a100}, 1, 580)) == 0);
    CHECK(score(sm80, machine({h100}, 1, 580)) == 60);
    CHECK(score(sm90, machine({h100}, 1, 580)) == 90);
    CHECK(score(sm80, machine({v100}, 1, 580)) == 0);
    CHECK(score(sm90, machine({v100, h200}, 2, 580)) == 90);
}

TEST_CASE("an unknown chip counts as newer than all: what runs on newer ones may try") {
    CHECK(score(sm80, machine({unknown}, 1, 580)) == 60);
    CHECK(score(sm90, machine({unknown}, 1, 580)) == 0);
}

TEST_CASE("a GPU without a driver, or with an old one, is refused, and the reason names it") {
    CHECK(score(sm90, machine({h100}, 0, 0)) == 0);
    CHECK(std::string(probed(sm90, machine({h100}, 0, 0)).reason).find("GH100") != std::string::npos);
    CHECK(score(sm90, machine({h100}, 1, 535)) == 0);
    CHECK(score(sm90, machine({h100}, 1, 0)) == 90); // a version that cannot be read is no reason
}

TEST_CASE("a container that hides the bus leaves it to the opening") {
    CHECK(score(sm80, machine({}, 1, 580)) == 60);
    CHECK(score(sm90, machine({}, 1, 580)) == 90);
}

TEST_CASE("facts and probes that are too short, or count more GPUs than they hold, do no harm") {
    moira_device_facts facts = machine({}, 1, 580);
    facts.gpus = UINT32_MAX;
    CHECK(score(sm90, facts) == 0);
    moira_probe probe{};
    CHECK(cuda_probe(sm80, &facts, &probe) == MOIRA_INVALID_ARGUMENT);
    probe.struct_size = sizeof probe;
    facts.struct_size = 24;
    CHECK(cuda_probe(sm80, &facts, &probe) == MOIRA_INVALID_ARGUMENT);
    CHECK(cuda_probe(sm80, nullptr, &probe) == MOIRA_INVALID_ARGUMENT);
}
