// Small kernels for the sm_90 part of the layer, with one planted fault each and without it.
#pragma once

#include "kernels/cuda/device/wgmma_operands.hpp"
#include "tests/cuda/planted_faults.hpp"

namespace moira {

const std::vector<planted_fault>& planted_sm90_faults();

// out[row * 8 + column] = a b for a of [64, 16] and b of [8 columns][16], all row-major; b lies in shared memory with
// the swizzle. `steps` products are added up.
simt_report run_one_wgmma(const simt_config& config, simt_memory& memory, const uint16_t* a, const uint16_t* b,
                          float* out, matrix_swizzle swizzle, uint32_t steps);

} // namespace moira
