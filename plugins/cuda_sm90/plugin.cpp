// Hopper. Machine code for sm_90a alone: wgmma and TMA exist on no other chip.
#include "kernels/cuda/sm90/sm90_kernels.hpp"
#include "kernels/cuda/sm_kernels.hpp"
#include "plugins/cuda_runtime/cuda_runtime.hpp"

namespace moira {

namespace {

bool runs_on(uint32_t compute_major, uint32_t compute_minor) {
    return compute_major == 9 && compute_minor == 0;
}

// Products on wgmma; the rest, attention among it, is compiled from the kernels for 8.0. Weights are packed alike.
const cuda_kernels& kernels() {
    static const cuda_kernels table = [] {
        cuda_kernels made = cuda_sm_kernels();
        made.numerics_id = "cuda_sm90-2"; // 1: every product on mma.sync
        made.expert_ffn.launch = sm90_expert_ffn;
        made.gemm.launch = sm90_gemm;
        return made;
    }();
    return table;
}

} // namespace

const cuda_plugin& this_cuda_plugin() {
    static constexpr cuda_plugin plugin = {
        .name = "cuda_sm90",
        .requirement = "an NVIDIA GPU of compute capability 9.0",
        .score = 90,
        .runs_on = runs_on,
        .kernels = kernels,
        .calls = cuda_runtime_calls,
    };
    return plugin;
}

} // namespace moira
