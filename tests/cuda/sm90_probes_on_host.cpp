#include "kernels/cuda/probes/sm90_probe_kernels.hpp"
#include "tests/cuda/probes_on_host.hpp"

#include <iterator>

namespace moira {

uint32_t sm90_probe_kernel_count() {
    return uint32_t(std::size(sm90_probe_kernels));
}

simt_report run_sm90_probe(const simt_config& config, simt_memory& memory, uint32_t index, const probe_args& args) {
    return simt_launch({sm90_probes().probes[index].cases, 1, 1, warpgroup_threads, wgmma_probe_shared_bytes}, config,
                       memory, [&] { sm90_probe_kernels[index](args); });
}

} // namespace moira
