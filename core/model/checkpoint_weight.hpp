#pragma once

#include "core/base/error.hpp"
#include "core/model/checkpoint.hpp"
#include "plugins/moira_plugin.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace moira {

/// Rows and columns of a weight that share one scale in an FP8 checkpoint (DeepSeek-V3, section 3.3.2). Blocks at the
/// edges are smaller.
inline constexpr std::uint32_t scale_block = 128;

/// Largest finite E4M3 value.
inline constexpr float f8_e4m3_max = 448.0F;

/// What the scales of tensor "X" are called.
std::string scale_name(std::string_view weight_name);

/// [ceil(n / 128), ceil(k / 128)], of at least 1 x 1.
std::vector<std::int64_t> scale_shape(std::int64_t n, std::int64_t k);

/// A weight as stored, without scales.
moira_quantization plain_weight(std::uint32_t weight_type);

/// E4M3 with one F32 scale per block of 128 x 128.
moira_quantization block_scaled_weight();

bool same_quantization(const moira_quantization& a, const moira_quantization& b) noexcept;

/// A weight matrix [n, k] as the files hold it. Borrows from the checkpoint.
struct checkpoint_weight {
    const tensor_location* weight = nullptr;
    const tensor_location* scales = nullptr; ///< F32, scale_shape(n, k); null: the weight has none
    moira_quantization quantization{};

    std::uint64_t bytes() const noexcept { return weight->bytes + (scales ? scales->bytes : 0); }

    /// The type without scales that holds it: F32 for FP8 (the product of a value of 4 significant bits and an F32
    /// scale, rounded once), its own otherwise.
    std::uint32_t widened_type() const noexcept {
        return scales ? std::uint32_t{MOIRA_TYPE_F32} : quantization.weight_type;
    }
};

/// Finds a matrix with its scales, and how kernels read it: F32, BF16 or F16 as it is, F8_E4M3 with "X_scale_inv", F32,
/// one scale per 128 x 128 block. Errors: corrupt_file (no such tensor), invalid_config (scales of another shape, or of
/// a weight that has its full width), unsupported (types that no kernel reads, FP8 without scales or with those of
/// another type, blocks of another size in config.json).
result<checkpoint_weight> find_weight(const checkpoint& model, const std::string& name);

/// A scale is a finite number of at least 0 whose product with the largest E4M3 value is finite too: a weight is never
/// infinite or NaN by its scale. 0 makes a block of zeros. The weights themselves are not looked at, as in every other
/// format. `bytes`: F32 values at any address. Errors: corrupt_file (names the tensor).
result<void> check_scales(std::span<const std::byte> bytes, std::string_view name);

/// Widens a block-scaled matrix [n, k] to F32: value times scale, rounded once. `weight`: n * k bytes; `scales`: F32
/// values of scale_shape(n, k) at any address; `values`: n * k. Precondition: the sizes fit.
void widen_block_scaled(std::span<const std::byte> weight, std::span<const std::byte> scales, std::uint32_t n,
                        std::uint32_t k, std::span<float> values);

} // namespace moira
