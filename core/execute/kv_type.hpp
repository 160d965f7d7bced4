#pragma once

#include "core/execute/op_descriptions.hpp"

#include <cstdint>

namespace moira {

/// The MOIRA_TYPE_* in which keys and values are kept: float32, or what the plugin that wins attention says it would
/// rather have, when it wins both attention and kv_append with it. `limits` without pages stand for one full context.
std::uint32_t choose_kv_type(const op_selector& selector, const model_shape& shape, execution_limits limits);

/// Bytes of one kept number.
std::uint64_t kv_type_bytes(std::uint32_t kv_type) noexcept;

/// "f32" or "bf16".
const char* kv_type_name(std::uint32_t kv_type) noexcept;

/// Bytes of one page over `layers` layers.
std::uint64_t kv_page_bytes(const model_shape& shape, const execution_limits& limits, std::int32_t layers) noexcept;

}  // namespace moira
