#include "kernels/cuda/probes/probe_sets.hpp"

namespace moira {

namespace {

bool from_sm80(uint32_t compute_major, uint32_t) {
    return compute_major >= 8;
}

} // namespace

const probe_set* probe_sets(uint32_t& count) {
    static const probe_set sets[] = {
        {"sm_80 and later", from_sm80, sm80_probes(), launch_sm80_probe},
    };
    count = sizeof sets / sizeof sets[0];
    return sets;
}

} // namespace moira
