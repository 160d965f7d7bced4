#include "core/model/fp8_quantizer.hpp"

#include "core/model/checkpoint_weight.hpp"
#include "plugins/moira_plugin.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

namespace moira {

namespace {

constexpr std::uint32_t infinity_bits = 0x7f800000U;

std::size_t element_bytes(std::uint32_t type) {
    return type == MOIRA_TYPE_F32 ? 4 : type == MOIRA_TYPE_BF16 || type == MOIRA_TYPE_F16 ? 2 : 0;
}

/// All ones where the condition holds: selecting with it leaves no branch, so that compilers use vectors.
std::uint32_t mask_of(bool condition) {
    return 0U - static_cast<std::uint32_t>(condition);
}

/// x to its nearest E4M3 value, ties to even; beyond 448 it is 448.
std::uint8_t nearest_e4m3(float x) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = bits >> 24 & 0x80U;
    // As signed numbers: vectors of the oldest x86-64 compare no others.
    const auto size = static_cast<std::int32_t>(bits & 0x7fffffffU);
    constexpr auto largest = std::bit_cast<std::int32_t>(f8_e4m3_max);
    const auto magnitude = static_cast<std::uint32_t>(size < largest ? size : largest);
    // 20 of 23 mantissa bits go, half of the last kept one is added first; the exponent's bias becomes 7 instead of
    // 127.
    const std::uint32_t normal = ((magnitude + 0x7ffffU + (magnitude >> 20 & 1U)) >> 20) - ((127U - 7U) << 3);
    // Below 2^-6 steps are 2^-9, which is also the step of float32 at 2^14: adding that rounds, and the sum's low bits
    // count the steps.
    constexpr float rounder = 0x1p14F;
    const std::uint32_t subnormal =
        std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + rounder) - std::bit_cast<std::uint32_t>(rounder);
    constexpr std::int32_t normal_min_bits = (127 - 6) << 23; // 2^-6
    const std::uint32_t small = mask_of(static_cast<std::int32_t>(magnitude) < normal_min_bits);
    return static_cast<std::uint8_t>(sign | (subnormal & small) | (normal & ~small));
}

/// IEEE 754 binary16. The same bits read as float32 have an exponent bias of 127 instead of 15: 2^112 makes up for the
/// difference, subnormals too. Infinity and NaN keep their exponent of all ones.
float widen_f16(std::uint16_t half) {
    const std::uint32_t magnitude = (half & 0x7fffU) << 13;
    const float finite = std::bit_cast<float>(magnitude) * 0x1p112F;
    const std::uint32_t not_finite = mask_of((half & 0x7c00U) == 0x7c00U);
    const std::uint32_t bits =
        (std::bit_cast<std::uint32_t>(finite) & ~not_finite) | ((magnitude | infinity_bits) & not_finite);
    return std::bit_cast<float>(bits | (half & 0x8000U) << 16);
}

/// Widens values at any address; gives the largest magnitude's bits, of which those of NaN and infinity are the
/// largest. Signed for the same reason as above.
template <class Stored, class Widen>
std::int32_t widen_row(const std::byte* source, std::size_t columns, float* values, Widen widen) {
    std::int32_t largest = 0;
    for (std::size_t column = 0; column < columns; ++column) {
        Stored stored{};
        std::memcpy(&stored, source + column * sizeof stored, sizeof stored);
        const float value = widen(stored);
        values[column] = value;
        const auto magnitude = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(value) & 0x7fffffffU);
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

std::int32_t widen_row(std::uint32_t type, const std::byte* source, std::size_t columns, float* values) {
    if (type == MOIRA_TYPE_BF16)
        return widen_row<std::uint16_t>(source, columns, values, [](std::uint16_t bits) {
            return std::bit_cast<float>(std::uint32_t{bits} << 16);
        });
    if (type == MOIRA_TYPE_F16)
        return widen_row<std::uint16_t>(source, columns, values, widen_f16);
    return widen_row<float>(source, columns, values, [](float value) { return value; });
}

void round_row(const float* values, float scale, std::size_t columns, std::byte* weight) {
    for (std::size_t column = 0; column < columns; ++column)
        weight[column] = static_cast<std::byte>(nearest_e4m3(values[column] / scale));
}

/// One block, widened: rows of `scale_block` values of which `columns` count.
class block_buffer {
public:
    std::uint32_t fill(std::uint32_t type, const std::byte* source, std::size_t row_bytes, std::size_t rows,
                       std::size_t columns) {
        std::int32_t largest = 0;
        for (std::size_t row = 0; row < rows; ++row)
            largest =
                std::max(largest, widen_row(type, source + row * row_bytes, columns, &values_[row * scale_block]));
        return static_cast<std::uint32_t>(largest);
    }

    void round(float scale, std::size_t rows, std::size_t columns, std::byte* weight, std::size_t stride) const {
        for (std::size_t row = 0; row < rows; ++row)
            round_row(&values_[row * scale_block], scale, columns, weight + row * stride);
    }

private:
    std::array<float, std::size_t{scale_block} * scale_block> values_;
};

float scale_of(std::uint32_t largest_bits) {
    if (largest_bits == 0)
        return 1.0F;
    return std::max(std::bit_cast<float>(largest_bits) / f8_e4m3_max, std::numeric_limits<float>::min());
}

} // namespace

std::uint64_t fp8_weight_bytes(std::uint32_t n, std::uint32_t k) {
    return std::uint64_t{n} * k;
}

std::uint64_t fp8_scale_bytes(std::uint32_t n, std::uint32_t k) {
    const auto shape = scale_shape(n, k);
    return static_cast<std::uint64_t>(shape[0]) * static_cast<std::uint64_t>(shape[1]) * sizeof(float);
}

result<void> quantize_to_fp8(std::uint32_t type, std::span<const std::byte> source, std::uint32_t n, std::uint32_t k,
                             std::span<std::byte> weight, std::span<std::byte> scales) {
    const std::size_t element = element_bytes(type);
    if (element == 0 || source.size() / element != fp8_weight_bytes(n, k) || source.size() % element != 0 ||
        weight.size() < fp8_weight_bytes(n, k) || scales.size() < fp8_scale_bytes(n, k))
        return fail(errc::invalid_argument, "a matrix of " + std::to_string(n) + " x " + std::to_string(k) +
                                                " of type " + std::to_string(type) + " in " +
                                                std::to_string(source.size()) + " bytes cannot be quantised");
    block_buffer block;
    std::size_t scale_index = 0;
    const std::size_t row_bytes = k * element;
    for (std::size_t row = 0; row < n; row += scale_block)
        for (std::size_t column = 0; column < k; column += scale_block) {
            const auto rows = std::min<std::size_t>(scale_block, n - row);
            const auto columns = std::min<std::size_t>(scale_block, k - column);
            const auto largest =
                block.fill(type, source.data() + row * row_bytes + column * element, row_bytes, rows, columns);
            if (largest >= infinity_bits)
                return fail(errc::corrupt_file, "a weight in rows " + std::to_string(row) + " to " +
                                                    std::to_string(row + rows - 1) + " is infinite or NaN");
            const float scale = scale_of(largest);
            block.round(scale, rows, columns, weight.data() + row * k + column, k);
            std::memcpy(scales.data() + scale_index++ * sizeof scale, &scale, sizeof scale);
        }
    return {};
}

} // namespace moira
