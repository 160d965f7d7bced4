#include "core/plan/hit_curve.hpp"

#include <algorithm>
#include <cmath>

namespace moira {

double hit_curve::at(double resident_share) const noexcept {
    const double place = std::clamp(resident_share, 0.0, 1.0) * static_cast<double>(hits.size() - 1);
    const auto below = std::min(static_cast<std::size_t>(place), hits.size() - 2);
    const double part = place - static_cast<double>(below);
    return hits[below] + part * (hits[below + 1] - hits[below]);
}

const hit_curve& uniform_hits() {
    static const hit_curve curve{{0.0, 1.0}};
    return curve;
}

const hit_curve& skewed_hits() {
    // Every sixteenth of the experts; of stack distances (Mattson et al. 1970) of that recording.
    static const hit_curve curve{{0.0, 0.190, 0.440, 0.549, 0.650, 0.735, 0.802, 0.854, 0.894, 0.925, 0.949, 0.966,
                                  0.979, 0.988, 0.994, 0.998, 1.0}};
    return curve;
}

} // namespace moira
