#pragma once

#include <cstdint>

namespace moira {

/// An expert that the next visit of a layer will probably want.
struct expert_hint {
    std::int32_t expert = 0;
    float probability = 0;
};

} // namespace moira
