#include "kernels/cuda/probes/probe_sets.hpp"

namespace moira {

namespace {

bool from_sm80(uint32_t compute_major, uint32_t) {
    return compute_major >= 8;
}
bool is_sm90(uint32_t compute_major, uint32_t compute_minor) {
    return compute_major == 9 && compute_minor == 0;
}

} // namespace

const probe_set* probe_sets(uint32_t& count) {
    static const probe_set sets[] = {
        {"sm_80 and later", from_sm80, sm80_probes(), launch_sm80_probe},
        {"sm_90", is_sm90, sm90_probes(), launch_sm90_probe},
    };
    count = sizeof sets / sizeof sets[0];
    return sets;
}

} // namespace moira
