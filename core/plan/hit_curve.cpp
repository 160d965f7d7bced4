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
    // Every sixteenth of the experts: moira trace replay --policy foresight --warm-up 31367 --slots 48,96,144, ...
    static const hit_curve curve{{0.0, 0.305, 0.496, 0.623, 0.719, 0.796, 0.855, 0.900, 0.934, 0.957, 0.974, 0.985,
                                  0.992, 0.996, 0.998, 0.999, 1.0}};
    return curve;
}

} // namespace moira
