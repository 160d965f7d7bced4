#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace moira {

/// BF16 is the upper half of a float32.
float bf16_to_f32(std::uint16_t bits) noexcept;

/// IEEE 754 binary16, subnormals and infinities included.
float f16_to_f32(std::uint16_t bits) noexcept;

/// Widens values of a kernel type (MOIRA_TYPE_F32, BF16, F16) exactly. False when the type is another one or the sizes
/// do not match; nothing is written then.
bool widen_to_f32(std::uint32_t type, std::span<const std::byte> bytes, std::span<float> values) noexcept;

}  // namespace moira
