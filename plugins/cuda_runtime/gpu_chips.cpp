#include "plugins/cuda_runtime/gpu_chips.hpp"

namespace moira {

namespace {

struct id_range {
    uint32_t first;
    uint32_t last;
    gpu_chip chip;
};

// NVIDIA gives each chip a range of ids (the public PCI ID database, vendor 10de); compute capabilities are those of
// the CUDA programming guide. Only chips of data centres and desktops that CUDA 13 still supports, and their
// forerunners.
constexpr id_range ranges[] = {
    {0x1340, 0x1d81 - 1, {"Maxwell or Pascal", 6, 0}},
    {0x1d81, 0x1dff, {"GV100 (V100)", 7, 0}},
    {0x1e00, 0x1fff, {"TU10x (Turing)", 7, 5}},
    {0x2080, 0x20ff, {"GA100 (A100, A800, A30)", 8, 0}},
    {0x2180, 0x21ff, {"TU11x (Turing)", 7, 5}},
    {0x2200, 0x22ff, {"GA10x (A10, A40, A6000)", 8, 6}},
    {0x2300, 0x23ff, {"GH100 (H100, H200, GH200)", 9, 0}},
    {0x2400, 0x25ff, {"GA10x (RTX 30, A2000)", 8, 6}},
    {0x2600, 0x28ff, {"AD10x (L4, L40)", 8, 9}},
    {0x2900, 0x29ff, {"GB100 (B100, B200, GB200)", 10, 0}},
    {0x2b80, 0x2fff, {"GB20x (RTX PRO, RTX 50)", 12, 0}},
    {0x3180, 0x31ff, {"GB110 (B300, GB300)", 10, 3}},
};

} // namespace

const gpu_chip* find_gpu_chip(uint32_t pci_device) {
    for (const id_range& range : ranges)
        if (pci_device >= range.first && pci_device <= range.last)
            return &range.chip;
    return nullptr;
}

} // namespace moira
