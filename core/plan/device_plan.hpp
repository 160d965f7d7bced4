#pragma once

#include "core/plan/budget_plan.hpp"
#include "core/plan/hit_curve.hpp"
#include "core/plan/speed_estimate.hpp"

#include <cstdint>
#include <optional>

namespace moira {

/// A device with memory of its own, as somebody describes it. 10^9 bytes per second; 0: not told.
struct planned_device {
    std::uint64_t memory_bytes = 0;
    double memory_gb_s = 0;
    double link_gb_s = 0; ///< from host memory
};

/// What such a device would hold above the host's memory, and how fast the two would be.
struct device_plan {
    bool dense_fits = false;    ///< everything outside experts has room
    std::uint64_t slots = 0;    ///< experts that the rest holds
    double hit_rate = 0;        ///< on the device
    double host_hit_rate = 0;   ///< of what misses there: in the host's memory
    std::optional<speed_estimate> speed; ///< none: a speed was not told, or not even one token's experts fit
};

/// The same arithmetic as for memory over a disk: an expert that misses comes over the link, and where the host lacks
/// it from the disk first. `host`: what the host's memory holds. Errors: those of `hits`.
result<device_plan> plan_device(const model_demands& demands, const planned_device& device, const budget_plan& host,
                                std::optional<double> disk_gb_s, std::int32_t context_tokens, const hit_source& hits);

} // namespace moira
