#include "core/experts/prefetch_admission.hpp"

#include <algorithm>

namespace moira {

prefetch_estimate estimate_prefetch(double probability, bool evicts, bool idle_core,
                                    const prefetch_figures& measured) noexcept {
    prefetch_estimate estimate;
    // No more can be saved than the stall itself, and no more than the time by which the read begins earlier.
    estimate.gain_s = probability * std::min(measured.stall_per_load_s, measured.lead_s);
    // A demand load that meets a wrong read waits for half of it on average; a right one is joined.
    estimate.cost_s = (1 - probability) * measured.contention * measured.read_s / 2;
    // Without a processor to spare, reading and packing take their time from the step, right or wrong, but for the
    // part that falls into waits in which processors idle: reads of which little is processor time.
    if (!idle_core) {
        const double busy = measured.read_s > 0 ? std::min(measured.cpu_s / measured.read_s, 1.0) : 1.0;
        estimate.cost_s += measured.cpu_s * (1 - measured.stall_share * (1 - busy));
    }
    if (evicts)
        estimate.cost_s += measured.regret * measured.stall_per_load_s;
    return estimate;
}

} // namespace moira
