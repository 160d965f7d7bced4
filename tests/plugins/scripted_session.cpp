#include "tests/plugins/scripted_session.hpp"

#include "kernels/reference/reference_kernels.hpp"

#include <algorithm>

namespace moira {

int rmsnorm_code = 0;

namespace {

/// Adds one to every element; a row whose first element is negative is an error.
int launch_rmsnorm(const moira_rmsnorm_desc& desc, const moira_rmsnorm_args& args, const cuda_launch& launch) {
    const auto work = [desc, args, slot = reinterpret_cast<error_slot_words*>(launch.errors)] {
        for (uint32_t row = args.rows; row-- > 0;) { // any order: the least row wins
            const float* in = args.in + row * args.in_stride;
            if (in[0] < 0) {
                const uint64_t high = uint64_t{row} << 32;
                slot->row_code = std::min(slot->row_code, high | MOIRA_ERROR_PAGE_OUT_OF_RANGE);
                slot->row_detail = std::min(slot->row_detail, high | 77u);
            }
            for (uint32_t i = 0; i < desc.width; ++i)
                args.out[row * args.out_stride + i] = in[i] + 1;
        }
    };
    scripted_cuda().queue(launch.stream, work);
    return std::exchange(rmsnorm_code, 0);
}

const char* narrow(const moira_rmsnorm_desc& desc) {
    return desc.width > 64 ? "is wider than 64" : nullptr;
}

const cuda_kernels& kernels() {
    static const cuda_kernels table = {
        .numerics_id = "scripted",
        .weight_supported = reference_weight_supported,
        .packing = reference_packing(),
        .rmsnorm = {launch_rmsnorm, narrow},
    };
    return table;
}

} // namespace

const cuda_plugin& this_cuda_plugin() {
    static const cuda_plugin plugin = {"scripted", "compute capability 8.0 or newer",
                                       60,         [](uint32_t major, uint32_t) { return major >= 8; },
                                       kernels,    scripted_cuda_calls};
    return plugin;
}

} // namespace moira
