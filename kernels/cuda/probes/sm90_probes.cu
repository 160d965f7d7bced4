#include "kernels/cuda/probes/probe_sets.hpp"
#include "kernels/cuda/probes/sm90_probe_kernels.hpp"

#include <cuda_runtime.h>

namespace moira {

int launch_sm90_probe(uint32_t index, const probe_args& args) {
    sm90_probe_kernels[index]<<<sm90_probes().probes[index].cases, warpgroup_threads, wgmma_probe_shared_bytes>>>(args);
    return int(cudaGetLastError());
}

} // namespace moira
