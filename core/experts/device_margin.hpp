#pragma once

#include <cstdint>

namespace moira {

/// Of a device's memory, left to the driver's allocator and to libraries' workspaces: a part in so many. They take some
/// hundred megabytes of a large device and less of a small one.
inline constexpr std::uint64_t device_margin_divisor = 64;

} // namespace moira
