#include "kernels/cuda/sm_kernels.hpp"

#include "kernels/reference/reference_kernels.hpp"

namespace moira {

const cuda_kernels& cuda_sm_kernels() {
    static const cuda_kernels kernels = {
        .numerics_id = "cuda-sm",
        .kv_bf16_supported = true,
        .kv_type_wanted = MOIRA_TYPE_BF16,
        .weight_supported = reference_weight_supported,
        .packing = reference_packing(),
    };
    return kernels;
}

} // namespace moira
