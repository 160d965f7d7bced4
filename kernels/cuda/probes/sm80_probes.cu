#include "kernels/cuda/probes/probe_kernels.hpp"
#include "kernels/cuda/probes/probe_sets.hpp"

#include <cuda_runtime.h>

namespace moira {

int launch_sm80_probe(uint32_t index, const probe_args& args) {
    sm80_probe_kernels[index]<<<sm80_probes().probes[index].cases, warp_lanes>>>(args);
    return int(cudaGetLastError());
}

} // namespace moira
