// rmsnorm and combine.
#include "kernels/x86/simd.hpp"
#include "kernels/x86/x86_kernels.hpp"

#include <cmath>

namespace moira {

namespace {

void normalize(const moira_rmsnorm_desc& desc, const float* in, const float* weight, float* out) {
    simd_float squares = simd_zero();
    for_vectors(desc.width, [&](uint32_t offset, uint32_t count) {
        const simd_float x = simd_load_some(in + offset, count);
        squares = simd_multiply_add(x, x, squares);
    });
    const simd_float factor = simd_set(1.0f / std::sqrt(simd_sum(squares) / float(desc.width) + desc.epsilon));
    for_vectors(desc.width, [&](uint32_t offset, uint32_t count) {
        const simd_float scaled = simd_multiply(simd_load_some(in + offset, count), factor);
        simd_store_some(out + offset, simd_multiply(scaled, simd_load_some(weight + offset, count)), count);
    });
}

} // namespace

void x86_rmsnorm(const moira_rmsnorm_desc& desc, const moira_rmsnorm_args& args, const work_share& share) {
    for (uint64_t row = share.begin; row < share.end; ++row)
        for (uint64_t group = 0; group < args.groups; ++group)
            normalize(desc, args.in + row * args.in_stride + group * args.group_stride, args.weight,
                      args.out + row * args.out_stride + group * args.group_stride);
}

// Product, then sum, as the reference does: the bits are the same.
void x86_combine(const moira_combine_desc& desc, const moira_combine_args& args, const work_share& share) {
    for (uint64_t row = share.begin; row < share.end; ++row) {
        float* residual = args.residual + row * desc.width;
        const float* weights = args.weights + row * desc.top_k;
        const float* expert_out = args.expert_out + row * desc.top_k * desc.width;
        const float* shared = desc.has_shared ? args.shared + row * desc.width : nullptr;
        for_vectors(desc.width, [&](uint32_t offset, uint32_t count) {
            simd_float sum = simd_zero();
            for (uint64_t rank = 0; rank < desc.top_k; ++rank) {
                if (weights[rank] == 0.0f) // nobody may have written the output
                    continue;
                const simd_float expert = simd_load_some(expert_out + rank * desc.width + offset, count);
                sum = simd_add(sum, simd_multiply(simd_set(weights[rank]), expert));
            }
            if (shared)
                sum = simd_add(sum, simd_load_some(shared + offset, count));
            simd_store_some(residual + offset, simd_add(simd_load_some(residual + offset, count), sum), count);
        });
    }
}

} // namespace moira
