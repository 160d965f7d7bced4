// The ops that work on one row at a time: embedding, rmsnorm, rope, kv_append, combine.
#include "kernels/reference/reference_kernels.hpp"
#include "kernels/reference/weight_view.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace moira {

void reference_embedding(const moira_embedding_desc& desc, const moira_embedding_args& args, const work_share& share) {
    for (uint64_t row = share.begin; row < share.end; ++row) {
        float* out = args.out + row * desc.width;
        const int32_t id = args.token_ids[row];
        if (id < 0 || uint32_t(id) >= desc.vocabulary) { // reported by find_error
            std::memset(out, 0, desc.width * sizeof(float));
            continue;
        }
        with_loader(desc.weight_type, [&](auto loader) {
            for (uint32_t column = 0; column < desc.width; ++column)
                out[column] = loader.load(args.table, uint64_t(id) * desc.width + column);
        });
    }
}

void reference_rmsnorm(const moira_rmsnorm_desc& desc, const moira_rmsnorm_args& args, const work_share& share) {
    for (uint64_t row = share.begin; row < share.end; ++row) {
        for (uint64_t group = 0; group < args.groups; ++group) {
            const float* in = args.in + row * args.in_stride + group * args.group_stride;
            float* out = args.out + row * args.out_stride + group * args.group_stride;
            float sum = 0.0f;
            for (uint32_t column = 0; column < desc.width; ++column)
                sum += in[column] * in[column];
            const float factor = 1.0f / std::sqrt(sum / float(desc.width) + desc.epsilon);
            for (uint32_t column = 0; column < desc.width; ++column)
                out[column] = in[column] * factor * args.weight[column];
        }
    }
}

void reference_rope(const moira_rope_desc& desc, const moira_rope_args& args, const work_share& share) {
    const uint32_t half = desc.width / 2;
    const uint32_t partner = desc.interleaved ? 1 : half;
    const uint32_t step = desc.interleaved ? 2 : 1;
    for (uint64_t row = share.begin; row < share.end; ++row) {
        const int32_t position = args.positions[row];
        if (position < 0 || uint32_t(position) >= desc.positions) // reported by find_error
            continue;
        const float* cosines = args.table + uint64_t(position) * desc.width;
        const float* sines = cosines + half;
        for (uint64_t head = 0; head < desc.heads; ++head) {
            float* x = args.x + row * args.row_stride + head * args.head_stride;
            for (uint32_t i = 0; i < half; ++i) {
                float& first = x[i * step];
                float& second = x[i * step + partner];
                const float a = first;
                const float b = second;
                first = a * cosines[i] - b * sines[i];
                second = b * cosines[i] + a * sines[i];
            }
        }
    }
}

void reference_kv_append(const moira_kv_append_desc& desc, const moira_kv_append_args& args, const work_share& share) {
    for (uint64_t row = share.begin; row < share.end; ++row) {
        const int32_t slot = args.slots[row];
        if (slot < 0 || uint32_t(slot) >= desc.slots) // reported by find_error
            continue;
        const float* in = args.in + row * args.in_stride;
        const uint64_t at = uint64_t(slot) * args.slot_stride;
        if (desc.kv_type == MOIRA_TYPE_BF16)
            std::transform(in, in + desc.width, static_cast<uint16_t*>(args.pool) + at, float_to_bf16);
        else
            std::memcpy(static_cast<float*>(args.pool) + at, in, desc.width * sizeof(float));
    }
}

void reference_combine(const moira_combine_desc& desc, const moira_combine_args& args, const work_share& share) {
    for (uint64_t row = share.begin; row < share.end; ++row) {
        float* residual = args.residual + row * desc.width;
        const float* weights = desc.top_k ? args.weights + row * desc.top_k : nullptr;
        const float* expert_out = desc.top_k ? args.expert_out + row * desc.top_k * desc.width : nullptr;
        const float* shared = desc.has_shared ? args.shared + row * desc.width : nullptr;
        for (uint32_t column = 0; column < desc.width; ++column) {
            float sum = 0.0f;
            for (uint64_t rank = 0; rank < desc.top_k; ++rank)
                if (weights[rank] != 0.0f) // otherwise nobody may have written the output
                    sum += weights[rank] * expert_out[rank * desc.width + column];
            residual[column] += shared ? sum + shared[column] : sum;
        }
    }
}

} // namespace moira
