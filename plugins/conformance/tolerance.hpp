#pragma once

#include <cstdint>

namespace moira {

/// How far an op may be from cpu_reference. The distance is max |got - want| over the root mean square of all wanted
/// values of the case, so that it does not depend on scale and a sum that cancels is not judged by its own small size.
struct tolerance {
    std::uint32_t op;
    bool narrow; ///< weights narrower than f32, and the op may round activations to BF16 (MOIRA_COMPUTE_AUTO)
    double distance_max;
    const char* derivation;
};

/// The row for an op. Ops without weights have narrow == false.
const tolerance& tolerance_for(std::uint32_t op, bool narrow) noexcept;

} // namespace moira
