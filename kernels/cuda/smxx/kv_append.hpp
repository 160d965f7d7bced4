// One vector per row into its slot of the paged cache, in the cache's type.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/number_formats.hpp"
#include "kernels/cuda/smxx/limits.hpp"
#include "plugins/moira_plugin.h"

namespace moira {

inline launch_shape kv_append_shape(const moira_kv_append_desc&, const moira_kv_append_args& args) {
    return {args.rows, 1, 1, row_threads, 0};
}

SIMT_KERNEL(row_threads)
kv_append_rows(moira_kv_append_desc desc, moira_kv_append_args args, step_error_slot* errors) {
    const uint32_t row = blockIdx.x;
    const int32_t slot = args.slots[row];
    if (slot < 0 || uint32_t(slot) >= desc.slots) {
        if (threadIdx.x == 0)
            report_step_error(errors, MOIRA_ERROR_PAGE_OUT_OF_RANGE, row, slot);
        return;
    }
    const float* in = args.in + uint64_t{row} * args.in_stride;
    const uint64_t at = uint64_t(slot) * args.slot_stride;
    for (uint32_t column = threadIdx.x; column < desc.width; column += blockDim.x) {
        if (desc.kv_type == MOIRA_TYPE_BF16)
            static_cast<uint16_t*>(args.pool)[at + column] = bf16_rounded(in[column]);
        else
            static_cast<float*>(args.pool)[at + column] = in[column];
    }
}

} // namespace moira
