#pragma once

#include "core/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace moira {

/// What a quantised matrix [n, k] needs: one byte per weight, one F32 per block of 128 x 128.
std::uint64_t fp8_weight_bytes(std::uint32_t n, std::uint32_t k);
std::uint64_t fp8_scale_bytes(std::uint32_t n, std::uint32_t k);

/// Rounds a row-major matrix [n, k] of MOIRA_TYPE_F32, BF16 or F16 to E4M3 with one scale per block of 128 x 128, the
/// form of DeepSeek-V3's checkpoints: scale = largest magnitude / 448, value = weight / scale to nearest, ties to even.
/// Deterministic: the same bytes on every machine. A block of zeros is exact (scale 1); a scale is never subnormal, so
/// that of weights below 448 * 2^-126 the last bits go. Addresses need no alignment. Lossy: relative to a block's
/// largest magnitude a weight moves by at most 2^-5 (half a step of the largest binade, 16 of 448). Errors:
/// invalid_argument (type or sizes), corrupt_file (a weight is infinite or NaN: no scale holds it).
result<void> quantize_to_fp8(std::uint32_t type, std::span<const std::byte> source, std::uint32_t n, std::uint32_t k,
                             std::span<std::byte> weight, std::span<std::byte> scales);

} // namespace moira
