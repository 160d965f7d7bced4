// kv_append in BF16; float32 is a copy, as in the reference. For processors with BF16 dot products only.
#include "kernels/reference/reference_kernels.hpp"
#include "kernels/x86/simd.hpp"
#include "kernels/x86/x86_kernels.hpp"

namespace moira {

void x86_kv_append(const moira_kv_append_desc& desc, const moira_kv_append_args& args, const work_share& share) {
    if (desc.kv_type != MOIRA_TYPE_BF16)
        return reference_kv_append(desc, args, share);
    for (uint64_t row = share.begin; row < share.end; ++row) {
        const int32_t slot = args.slots[row];
        if (slot < 0 || uint32_t(slot) >= desc.slots) // reported by find_error
            continue;
        simd_narrow_to_bf16(args.in + row * args.in_stride, desc.width,
                            static_cast<uint16_t*>(args.pool) + uint64_t(slot) * args.slot_stride);
    }
}

} // namespace moira
