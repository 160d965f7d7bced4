#include "tests/cuda/probes_on_host.hpp"

#include "kernels/cuda/probes/probe_kernels.hpp"
#include "kernels/cuda/probes/speed_kernels.hpp"

#include <iterator>

namespace moira {

uint32_t sm80_probe_kernel_count() {
    return uint32_t(std::size(sm80_probe_kernels));
}

simt_report run_sm80_probe(const simt_config& config, simt_memory& memory, uint32_t index, const probe_args& args) {
    return simt_launch({sm80_probes().probes[index].cases, 1, 1, warp_lanes, 0}, config, memory,
                       [&] { sm80_probe_kernels[index](args); });
}

simt_report run_speed_read(const simt_config& config, simt_memory& memory, const void* data, uint64_t vectors,
                           uint32_t blocks, uint32_t* sink) {
    const speed_args args{static_cast<const uint4*>(data), vectors, 0, sink};
    return simt_launch({blocks, 1, 1, speed_threads, 0}, config, memory, [&] { speed_read(args); });
}

} // namespace moira
