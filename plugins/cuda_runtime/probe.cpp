// What can be said before anything is opened: from the host's facts alone, without a call into CUDA.
#include "plugins/cuda_runtime/cuda_runtime.hpp"
#include "plugins/cuda_runtime/gpu_chips.hpp"

#include <cstdarg>
#include <cstdio>

namespace moira {

namespace {

// The first driver that runs programs built with CUDA 13 (its release notes, table 3).
constexpr uint32_t driver_needed = 580;

void say(moira_probe& probe, const char* format, ...) __attribute__((format(printf, 2, 3)));
void say(moira_probe& probe, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(probe.reason, sizeof probe.reason, format, arguments);
    va_end(arguments);
}

// "; a GA100 (A100), compute capability 8.0, is there" in the words of the reason.
void describe_gpu(const moira_gpu_facts& gpu, char* text, size_t bytes) {
    const gpu_chip* chip = find_gpu_chip(gpu.pci_device);
    if (chip)
        std::snprintf(text, bytes, "%s, compute capability %u.%u", chip->name, chip->compute_major,
                      chip->compute_minor);
    else
        std::snprintf(text, bytes, "an unknown NVIDIA GPU (PCI id 10de:%04x)", gpu.pci_device);
}

// An unknown chip is most likely newer than this table: what runs on all newer chips may try, the device tells at
// opening.
bool may_run(const cuda_plugin& plugin, const moira_gpu_facts& gpu) {
    constexpr uint32_t newer_than_all = 99;
    const gpu_chip* chip = find_gpu_chip(gpu.pci_device);
    return chip ? plugin.runs_on(chip->compute_major, chip->compute_minor) : plugin.runs_on(newer_than_all, 0);
}

// Machines hide the bus from some containers: then the device nodes alone speak, and opening decides.
bool find_gpu(const cuda_plugin& plugin, const moira_device_facts& facts, moira_probe& probe) {
    char text[128];
    uint32_t suited = 0;
    const moira_gpu_facts* first = nullptr;
    const uint32_t gpus = facts.gpus < MOIRA_GPUS_MAX ? facts.gpus : MOIRA_GPUS_MAX;
    for (uint32_t index = 0; index < gpus; ++index) {
        if (!may_run(plugin, facts.gpu[index]))
            continue;
        ++suited;
        first = first ? first : &facts.gpu[index];
    }
    if (first) {
        describe_gpu(*first, text, sizeof text);
        say(probe, "%s; %u of %u GPU%s suited", text, suited, gpus, gpus == 1 ? "" : "s");
        return true;
    }
    if (gpus > 0) {
        describe_gpu(facts.gpu[0], text, sizeof text);
        if (gpus == 1)
            say(probe, "needs %s; found %s", plugin.requirement, text);
        else
            say(probe, "needs %s; none of %u GPUs is one, the first is %s", plugin.requirement, gpus, text);
        return false;
    }
    if (facts.cuda_devices > 0) {
        say(probe, "%u NVIDIA device node%s, chips not visible on the PCI bus; needs %s", facts.cuda_devices,
            facts.cuda_devices == 1 ? "" : "s", plugin.requirement);
        return true;
    }
    say(probe, "no NVIDIA GPU on the PCI bus and no /dev/nvidia0; needs %s", plugin.requirement);
    return false;
}

bool driver_ready(const moira_device_facts& facts, moira_probe& probe) {
    char found[MOIRA_TEXT_BYTES];
    std::snprintf(found, sizeof found, "%.150s", probe.reason);
    if (facts.cuda_devices == 0) {
        say(probe, "no driver: there is no /dev/nvidia0 (%s)", found);
        return false;
    }
    if (facts.nvidia_driver != 0 && facts.nvidia_driver < driver_needed) {
        say(probe, "driver %u is too old, %u or newer is needed (%s)", facts.nvidia_driver, driver_needed, found);
        return false;
    }
    return true;
}

} // namespace

moira_status cuda_probe(const cuda_plugin& plugin, const moira_device_facts* facts, moira_probe* probe) {
    if (!facts || !probe || facts->struct_size < sizeof *facts || probe->struct_size < sizeof *probe)
        return report(MOIRA_INVALID_ARGUMENT, "probing needs facts and a probe, each with its struct_size");
    const uint64_t struct_size = probe->struct_size;
    *probe = moira_probe{};
    probe->struct_size = struct_size;
    probe->abi_major = MOIRA_ABI_MAJOR;
    probe->abi_minor = MOIRA_ABI_MINOR;
    std::snprintf(probe->name, sizeof probe->name, "%s", plugin.name);
    std::snprintf(probe->device_class, sizeof probe->device_class, "cuda");
    const bool able = find_gpu(plugin, *facts, *probe) && driver_ready(*facts, *probe);
    probe->score = able ? plugin.score : 0;
    return MOIRA_OK;
}

} // namespace moira
