#pragma once

#include "plugins/moira_plugin.h"

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace moira {

/// What the kernel says about NVIDIA GPUs, read from files alone, so that no driver is woken: devices of vendor 0x10de
/// from sys/bus/pci, the loaded module's version from proc/driver/nvidia, device nodes from dev, all below `root` ("/"
/// outside tests). Files that are missing or make no sense mean "none". Fills the GPU fields of `facts`.
void read_gpu_facts(const std::filesystem::path& root, moira_device_facts& facts);

/// The major version in the text of proc/driver/nvidia/version; 0 when there is none.
std::uint32_t nvidia_driver_major(std::string_view version_text);

} // namespace moira
