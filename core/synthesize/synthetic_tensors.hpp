#pragma once

#include "core/model/safetensors.hpp"
#include "core/synthesize/synthetic_shape.hpp"

namespace moira {

/// One tensor of a synthetic model: values are mean + deviation x a bounded normal variable.
struct synthetic_tensor {
    std::string name;
    tensor_type type = tensor_type::bf16;
    std::vector<std::int64_t> shape; ///< of a matrix [n, k], of stacked matrices [count, rows, columns]
    double mean = 0, deviation = 0;
    /// f8_e4m3 and its f32 scales: the weight in whose blocks both are made, so that they agree.
    bool scales = false;

    std::uint64_t elements() const;
    std::uint64_t bytes() const { return elements() * tensor_type_bytes(type); }
};

/// Side of the square blocks that share a scale (DeepSeek-V3, section 3.3.2).
inline constexpr std::int64_t scale_block = 128;

/// Every tensor of the model, layer by layer. With `fp8` every linear weight but embedding and routers is F8_E4M3, with
/// a second tensor NAME_scale_inv.
std::vector<synthetic_tensor> synthetic_tensors(const synthetic_shape& shape, bool fp8);

} // namespace moira
