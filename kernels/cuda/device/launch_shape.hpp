// How a kernel is launched: what its configuration function returns and what both sides launch with.
#pragma once

#include <cstdint>

namespace moira {

struct launch_shape {
    uint32_t grid_x = 1;
    uint32_t grid_y = 1;
    uint32_t grid_z = 1;
    uint32_t threads = 32;     // per block, along x
    uint32_t shared_bytes = 0; // dynamic
};

} // namespace moira
