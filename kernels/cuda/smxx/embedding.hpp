// Rows of the embedding table, widened to float32. Bytes per row: the stored row once, 4 x width written.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/number_formats.hpp"
#include "kernels/cuda/smxx/limits.hpp"
#include "plugins/moira_plugin.h"

namespace moira {

inline launch_shape embedding_shape(const moira_embedding_desc&, const moira_embedding_args& args) {
    return {args.rows, 1, 1, row_threads, 0};
}

SIMT_FN float stored_value(const void* table, uint64_t index, uint32_t type) {
    switch (type) {
    case MOIRA_TYPE_BF16:
        return bf16_value(static_cast<const uint16_t*>(table)[index]);
    case MOIRA_TYPE_F16:
        return f16_value(static_cast<const uint16_t*>(table)[index]);
    case MOIRA_TYPE_F8_E4M3:
        return f8_e4m3_value(static_cast<const uint8_t*>(table)[index]);
    default:
        return static_cast<const float*>(table)[index];
    }
}

// One block per row.
SIMT_KERNEL(row_threads)
embedding_rows(moira_embedding_desc desc, moira_embedding_args args, step_error_slot* errors) {
    const uint32_t row = blockIdx.x;
    const int32_t id = args.token_ids[row];
    const bool known = id >= 0 && uint32_t(id) < desc.vocabulary;
    if (!known && threadIdx.x == 0)
        report_step_error(errors, MOIRA_ERROR_TOKEN_OUT_OF_RANGE, row, id);
    float* out = args.out + uint64_t{row} * desc.width;
    for (uint32_t column = threadIdx.x; column < desc.width; column += blockDim.x)
        out[column] = known ? stored_value(args.table, uint64_t(id) * desc.width + column, desc.weight_type) : 0.0f;
}

} // namespace moira
