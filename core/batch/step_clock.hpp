#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

namespace moira {

/// Measures what a step costs outside its own compute: from the end of one step to the end of the next, less the
/// compute of the latter. Only steps that followed directly count, so that waiting for work is not overhead.
class step_clock {
public:
    using time_point = std::chrono::steady_clock::time_point;

    /// The samples kept: enough for a 99th percentile, few enough to sort on request.
    static constexpr std::size_t samples_max = 1'024;

    /// A step that computed for `compute_s` has been received at `now`; `follows` says whether it was planned in the
    /// same moment in which the step before it was received.
    void step_received(time_point now, double compute_s, bool follows);

    /// Microseconds at `share` (0.5: median) of the kept samples; 0 without any.
    double overhead_us(double share) const;

private:
    time_point last_{};
    std::size_t next_ = 0;
    std::vector<double> samples_us_;
};

}  // namespace moira
