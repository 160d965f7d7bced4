#pragma once

#include "core/synthesize/synthetic_tensors.hpp"

#include <array>
#include <span>

namespace moira {

/// The values of one tensor as a function of seed, name and position alone: any part can be made at any time by any
/// thread. An FP8 weight holds the values of the BF16 weight of the same seed, rounded to E4M3 by its scales.
class weight_values {
public:
    weight_values(const synthetic_tensor& tensor, std::uint64_t seed);

    /// Elements of one 64-bit random word: parts begin at multiples of it.
    static constexpr std::uint64_t elements_per_word = 4;

    /// Bytes of the elements from `first` on, a multiple of elements_per_word.
    void fill(std::uint64_t first, std::span<std::byte> into) const;

private:
    /// A value's quantile: fine enough for BF16's 8 bits, small enough for the L1 cache (8 KiB of BF16).
    static constexpr std::size_t quantiles = 4'096;

    void fill_bf16(std::uint64_t first, std::span<std::byte> into) const;
    void fill_f8(std::uint64_t first, std::span<std::byte> into) const;
    void fill_scales(std::uint64_t first, std::span<std::byte> into) const;

    const synthetic_tensor& tensor_;
    std::uint64_t key_ = 0;
    std::array<std::uint16_t, quantiles> bf16_{}; ///< of BF16 tensors
};

} // namespace moira
