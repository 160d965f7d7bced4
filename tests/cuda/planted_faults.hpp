// Small kernels with one planted fault each, and the same without it: what the executor must find, and must not.
#pragma once

#include "kernels/cuda/host/executor.hpp"

#include <vector>

namespace moira {

struct planted_fault {
    const char* name;
    simt_fault expected;
    bool needs_hooks; // seen only through plain accesses
    simt_report (*run)(const simt_config& config, bool broken);
};

const std::vector<planted_fault>& planted_faults();

// A tile read by ldmatrix with the 16-byte columns swizzled or straight: its bank conflicts.
simt_report run_tile_read(const simt_config& config, bool swizzled);

// out[lane * 4 ..]: one mma of the A and B in memory, whose elements lie as the maps say.
simt_report run_one_mma(const simt_config& config, simt_memory& memory, const uint16_t* a, const uint16_t* b,
                        float* out);

// Registers of every lane after ldmatrix of four 8 x 8 matrices in a row: out[lane * 4 + matrix].
simt_report run_one_ldmatrix(const simt_config& config, simt_memory& memory, const uint16_t* matrices, uint32_t* out,
                             bool transposed);

// Sums 32 * warps values with warp_sum and block_sum.
simt_report run_sums(const simt_config& config, simt_memory& memory, const float* in, float* out, uint32_t threads);

} // namespace moira
