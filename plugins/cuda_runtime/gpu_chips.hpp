// Which chip a PCI device id stands for: what can be known of a GPU without a driver call.
#pragma once

#include <cstdint>

namespace moira {

struct gpu_chip {
    const char* name; // "GH100 (H100, H200, GH200)"
    uint32_t compute_major;
    uint32_t compute_minor;
};

// nullptr for an id in none of the known ranges.
const gpu_chip* find_gpu_chip(uint32_t pci_device);

} // namespace moira
