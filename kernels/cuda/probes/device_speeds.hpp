#pragma once

namespace moira {

// What the device and its bus can do, medians of several passes; 0: could not be measured.
struct device_speeds {
    double read_gb_s;      // a kernel that reads device memory, over far more than the L2
    double to_device_gb_s; // copies from page-locked memory
    double to_host_gb_s;
    double both_ways_gb_s;  // the sum of both while both run
    double mma_tflop_s;     // mma.sync m16n8k16 BF16, registers only
    double tensor_tflop_s;  // multiprocessors x clock x operations per clock of the chip's dense BF16 peak
    double launch_us;       // per empty kernel, one after another on a stream
    double graph_launch_us; // the same as nodes of one graph
    double l2_mib;
    double read_mib; // what read_gb_s went over
};

// Of the current device. A cudaError_t, 0 when all was measured.
int measure_device_speeds(device_speeds& speeds);

} // namespace moira
