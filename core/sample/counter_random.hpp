#pragma once

#include <array>
#include <cstdint>

namespace moira {

/// Philox 4x32 with 10 rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011):
/// a bijection of the 128-bit counter chosen by the 64-bit key. Pure; the same on every machine.
std::array<std::uint32_t, 4> philox_4x32_10(std::array<std::uint32_t, 4> counter,
                                            std::array<std::uint32_t, 2> key) noexcept;

} // namespace moira
