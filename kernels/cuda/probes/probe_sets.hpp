#pragma once

#include "kernels/cuda/probes/device_probe.hpp"

namespace moira {

int launch_sm80_probe(uint32_t index, const probe_args& args);
int launch_sm90_probe(uint32_t index, const probe_args& args);

// All that this program has, whatever GPU is there.
const probe_set* probe_sets(uint32_t& count);

} // namespace moira
