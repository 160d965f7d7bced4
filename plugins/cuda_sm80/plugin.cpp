// Ampere's mma.sync and cp.async, as machine code for 8.x and as PTX that the driver compiles for whatever is newer.
#include "kernels/cuda/sm_kernels.hpp"
#include "plugins/cuda_runtime/cuda_runtime.hpp"

namespace moira {

namespace {

bool runs_on(uint32_t compute_major, uint32_t) {
    return compute_major >= 8;
}

} // namespace

const cuda_plugin& this_cuda_plugin() {
    static constexpr cuda_plugin plugin = {
        .name = "cuda_sm80",
        .requirement = "an NVIDIA GPU of compute capability 8.0 or newer",
        .score = 60,
        .runs_on = runs_on,
        .kernels = cuda_sm_kernels,
        .calls = cuda_runtime_calls,
    };
    return plugin;
}

} // namespace moira
