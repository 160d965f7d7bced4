#pragma once

#include "core/model/safetensors.hpp"

#include <cstdint>
#include <optional>

namespace moira {

/// The kernel interface's number (MOIRA_TYPE_*) for a checkpoint's type that kernels read without scales; none for
/// others.
std::optional<std::uint32_t> kernel_type(tensor_type type) noexcept;

}  // namespace moira
