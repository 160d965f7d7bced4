#include "core/batch/step_clock.hpp"

#include <algorithm>

namespace moira {

void step_clock::step_received(time_point now, double compute_s, bool follows) {
    if (follows) {
        const double us = (std::chrono::duration<double>(now - last_).count() - compute_s) * 1e6;
        if (samples_us_.size() < samples_max)
            samples_us_.push_back(us);
        else
            samples_us_[next_++ % samples_max] = us;
    }
    last_ = now;
}

double step_clock::overhead_us(double share) const {
    if (samples_us_.empty())
        return 0;
    auto sorted = samples_us_;
    std::sort(sorted.begin(), sorted.end());
    return sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(share * static_cast<double>(sorted.size())))];
}

}  // namespace moira
