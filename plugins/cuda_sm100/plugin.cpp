// Blackwell for data centres. Machine code for sm_100a alone: tcgen05 exists on no other chip.
#include "kernels/cuda/sm_kernels.hpp"
#include "plugins/cuda_runtime/cuda_runtime.hpp"

namespace moira {

namespace {

bool runs_on(uint32_t compute_major, uint32_t compute_minor) {
    return compute_major == 10 && compute_minor == 0;
}

} // namespace

const cuda_plugin& this_cuda_plugin() {
    static constexpr cuda_plugin plugin = {
        .name = "cuda_sm100",
        .requirement = "an NVIDIA GPU of compute capability 10.0",
        .score = 100,
        .runs_on = runs_on,
        .kernels = cuda_sm_kernels,
        .calls = cuda_runtime_calls,
    };
    return plugin;
}

} // namespace moira
