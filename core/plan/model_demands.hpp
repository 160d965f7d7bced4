#pragma once

#include "core/base/error.hpp"
#include "core/model/checkpoint.hpp"
#include "core/synthesize/synthetic_shape.hpp"

#include <cstdint>
#include <string>

namespace moira {

/// Slots begin on this: no device and no packing asks for more.
inline constexpr std::uint64_t slot_alignment = 64;

/// What a model asks of a machine, in bytes. From headers alone: no weight is read.
struct model_demands {
    model_shape shape;
    std::uint64_t dense_bytes = 0;       ///< everything but routed experts: always in memory
    std::uint64_t dense_token_bytes = 0; ///< of them read for one token: of the embedding one row
    std::uint64_t slot_bytes = 0;        ///< one expert in memory
    std::uint64_t disk_bytes = 0;        ///< read for it
    std::uint32_t kv_value_bytes = 4;    ///< of one kept number: the plugin chooses, see choose_kv_type
    bool fp8_helps = false;              ///< experts are wider than FP8: experts.precision=fp8 would shrink them
    std::string refusal;                 ///< why this build cannot run the model; empty: it can

    /// Routed experts of all layers.
    std::uint64_t experts_all() const;
    /// Experts that one token uses over all layers: a cache of fewer has no room for a token.
    std::uint64_t experts_per_token() const;
    /// One token in the KV cache of all layers.
    std::uint64_t kv_token_bytes() const;
};

/// `fp8`: as with experts.precision=fp8.
model_demands demands_of(const checkpoint& model, bool fp8);

/// Of a model that need not exist: `stored_fp8` as `moira synth --dtype fp8` would write it. Errors: invalid_argument
/// (absurd dimensions).
result<model_demands> demands_of(const synthetic_shape& shape, bool stored_fp8, bool fp8);

} // namespace moira
