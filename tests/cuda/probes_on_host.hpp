// The probes' kernels run by the host executor.
#pragma once

#include "kernels/cuda/host/executor.hpp"
#include "kernels/cuda/probes/device_probe.hpp"

namespace moira {

uint32_t sm80_probe_kernel_count();
simt_report run_sm80_probe(const simt_config& config, simt_memory& memory, uint32_t index, const probe_args& args);

uint32_t sm90_probe_kernel_count();
simt_report run_sm90_probe(const simt_config& config, simt_memory& memory, uint32_t index, const probe_args& args);

// Reads `vectors` of 16 bytes with `blocks` blocks.
simt_report run_speed_read(const simt_config& config, simt_memory& memory, const void* data, uint64_t vectors,
                           uint32_t blocks, uint32_t* sink);

} // namespace moira
