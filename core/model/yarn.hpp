#pragma once

#include <cmath>

namespace moira {

/// YaRN's growth of attention with the stretched context (Peng et al. 2023, section 3.4), weighted as DeepSeek does.
inline double yarn_magnitude(double factor, double weight) {
    return factor <= 1.0 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0;
}

} // namespace moira
