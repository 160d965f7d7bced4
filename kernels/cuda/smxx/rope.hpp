// Rotary positions, in place. Bytes per row: heads x width read and written, one table row. Products are rounded before
// they are added: the bits are the reference's.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/simt.hpp"
#include "kernels/cuda/smxx/limits.hpp"
#include "plugins/moira_plugin.h"

namespace moira {

inline launch_shape rope_shape(const moira_rope_desc&, const moira_rope_args& args) {
    return {args.rows, 1, 1, row_threads, 0};
}

// One block per row, one thread per pair of dimensions.
SIMT_KERNEL(row_threads)
rope_rows(moira_rope_desc desc, moira_rope_args args, step_error_slot* errors) {
    const uint32_t row = blockIdx.x;
    const int32_t position = args.positions[row];
    if (position < 0 || uint32_t(position) >= desc.positions) {
        if (threadIdx.x == 0)
            report_step_error(errors, MOIRA_ERROR_TOKEN_OUT_OF_RANGE, row, position);
        return;
    }
    const uint32_t half = desc.width / 2;
    const uint32_t partner = desc.interleaved ? 1 : half;
    const uint32_t step = desc.interleaved ? 2 : 1;
    const float* cosines = args.table + uint64_t(position) * desc.width;
    for (uint32_t pair = threadIdx.x; pair < desc.heads * half; pair += blockDim.x) {
        const uint32_t i = pair % half;
        float* x = args.x + uint64_t{row} * args.row_stride + uint64_t{pair / half} * args.head_stride + i * step;
        const float a = x[0];
        const float b = x[partner];
        const float cosine = cosines[i];
        const float sine = cosines[half + i];
        x[0] = product(a, cosine) - product(b, sine);
        x[partner] = product(b, cosine) + product(a, sine);
    }
}

} // namespace moira
