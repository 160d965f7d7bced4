// residual += sum over ranks, in rank order, of weight * expert output, then the shared expert's. Bytes per row:
// (top_k + 2 or 3) x 4 x width. The bits are the reference's.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/simt.hpp"
#include "kernels/cuda/smxx/limits.hpp"
#include "plugins/moira_plugin.h"

namespace moira {

inline launch_shape combine_shape(const moira_combine_desc& desc, const moira_combine_args& args) {
    return {args.rows, (desc.width + row_threads - 1) / row_threads, 1, row_threads, 0};
}

// One thread per element.
SIMT_KERNEL(row_threads)
combine_rows(moira_combine_desc desc, moira_combine_args args, step_error_slot*) {
    const uint64_t row = blockIdx.x;
    const uint32_t column = blockIdx.y * row_threads + threadIdx.x;
    if (column >= desc.width)
        return;
    float sum = 0.0f;
    for (uint32_t rank = 0; rank < desc.top_k; ++rank) {
        const float weight = args.weights[row * desc.top_k + rank];
        if (weight != 0.0f) // otherwise nobody may have written the output
            sum += product(weight, args.expert_out[(row * desc.top_k + rank) * desc.width + column]);
    }
    const uint64_t at = row * desc.width + column;
    args.residual[at] += desc.has_shared ? sum + args.shared[at] : sum;
}

} // namespace moira
