#include "core/model/checkpoint_weight.hpp"

#include "core/model/kernel_type.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

namespace moira {

namespace {

float scale_at(std::span<const std::byte> bytes, std::size_t index) {
    float value = 0;
    std::memcpy(&value, bytes.data() + index * sizeof value, sizeof value);
    return value;
}

std::string dimensions(const std::vector<std::int64_t>& shape) {
    std::string text = "[";
    for (const auto dimension : shape)
        text += (text.size() > 1 ? ", " : "") + std::to_string(dimension);
    return text + "]";
}

std::string describe(const tensor_location& tensor) {
    return "tensor " + tensor.name + " is " + std::string(tensor_type_name(tensor.type)) + " " +
           dimensions(tensor.shape);
}

/// OCP E4M3: 1 sign, 4 exponent (bias 7), 3 mantissa bits, no infinities, all ones is NaN. The same bits read as
/// float32 have an exponent bias of 127: 2^120 makes up for the difference, subnormals too.
float widen_e4m3(std::uint32_t bits) {
    if ((bits & 0x7fU) == 0x7fU)
        return std::numeric_limits<float>::quiet_NaN();
    return std::bit_cast<float>((bits & 0x80U) << 24 | (bits & 0x7fU) << 20) * 0x1p120F;
}

const std::array<float, 256>& e4m3_values() {
    static const auto values = [] {
        std::array<float, 256> all{};
        for (std::uint32_t bits = 0; bits < all.size(); ++bits)
            all[bits] = widen_e4m3(bits);
        return all;
    }();
    return values;
}

result<void> check_scale_tensor(const model_shape& shape, const tensor_location& weight,
                                const tensor_location& scales) {
    if (shape.scale_block_rows != static_cast<std::int32_t>(scale_block) ||
        shape.scale_block_columns != static_cast<std::int32_t>(scale_block))
        return fail(errc::unsupported, "config.json says weight_block_size [" + std::to_string(shape.scale_block_rows) +
                                           ", " + std::to_string(shape.scale_block_columns) +
                                           "]; this build computes from FP8 weights in blocks of 128 x 128");
    if (scales.type != tensor_type::f32)
        return fail(errc::unsupported, describe(scales) + "; scales of FP8 weights are read as F32");
    const auto expected = scale_shape(weight.shape[0], weight.shape[1]);
    if (scales.shape != expected)
        return fail(errc::invalid_config, describe(scales) + "; one scale per block of 128 x 128 of " +
                                              dimensions(weight.shape) + " makes it " + dimensions(expected));
    return {};
}

} // namespace

std::string scale_name(std::string_view weight_name) {
    return std::string(weight_name) + "_scale_inv";
}

std::vector<std::int64_t> scale_shape(std::int64_t n, std::int64_t k) {
    constexpr std::int64_t block = scale_block;
    // Not (n + block - 1) / block, which overflows at the largest dimensions that a header can claim.
    return {n / block + (n % block != 0), k / block + (k % block != 0)};
}

moira_quantization plain_weight(std::uint32_t weight_type) {
    return {weight_type, MOIRA_SCALE_NONE, MOIRA_TYPE_F32, 0, 0, MOIRA_ACTIVATION_KEEP};
}

moira_quantization block_scaled_weight() {
    return {MOIRA_TYPE_F8_E4M3, MOIRA_SCALE_BLOCK, MOIRA_TYPE_F32, scale_block, scale_block, MOIRA_ACTIVATION_KEEP};
}

bool same_quantization(const moira_quantization& a, const moira_quantization& b) noexcept {
    return a.weight_type == b.weight_type && a.scale_mode == b.scale_mode && a.scale_type == b.scale_type &&
           a.block_n == b.block_n && a.block_k == b.block_k && a.activation == b.activation;
}

result<checkpoint_weight> find_weight(const checkpoint& model, const std::string& name) {
    checkpoint_weight found;
    found.weight = model.find(name);
    if (!found.weight)
        return fail(errc::corrupt_file, "tensor " + name + " is missing");
    const auto* scales = model.find(scale_name(name));
    if (const auto plain = kernel_type(found.weight->type)) {
        if (scales)
            return fail(errc::invalid_config, describe(*found.weight) + " but has scales, " + scales->name +
                                                  ": only F8_E4M3 weights are scaled");
        found.quantization = plain_weight(*plain);
        return found;
    }
    if (found.weight->type != tensor_type::f8_e4m3)
        return fail(errc::unsupported,
                    describe(*found.weight) + "; this build computes from BF16, F16, F32 and F8_E4M3 weights");
    if (found.weight->shape.size() != 2)
        return fail(errc::unsupported, describe(*found.weight) + "; only matrices can be FP8");
    if (!scales)
        return fail(errc::unsupported, describe(*found.weight) + " without " + scale_name(name) +
                                           "; FP8 weights need F32 scales per block of 128 x 128");
    if (auto checked = check_scale_tensor(model.shape(), *found.weight, *scales); !checked)
        return tl::unexpected(checked.error());
    found.scales = scales;
    found.quantization = block_scaled_weight();
    return found;
}

result<void> check_scales(std::span<const std::byte> bytes, std::string_view name) {
    constexpr float scale_max = std::numeric_limits<float>::max() / f8_e4m3_max;
    for (std::size_t index = 0; index < bytes.size() / sizeof(float); ++index) {
        const float scale = scale_at(bytes, index);
        if (!(scale >= 0.0F && scale <= scale_max))
            return fail(errc::corrupt_file, "tensor " + std::string(name) + " holds the scale " +
                                                std::to_string(scale) + " at " + std::to_string(index) +
                                                ", expected a finite number of at least 0");
    }
    return {};
}

void widen_block_scaled(std::span<const std::byte> weight, std::span<const std::byte> scales, std::uint32_t n,
                        std::uint32_t k, std::span<float> values) {
    const auto& widened = e4m3_values();
    const std::size_t scale_columns = (std::size_t{k} + scale_block - 1) / scale_block;
    for (std::size_t row = 0; row < n; ++row)
        for (std::size_t block = 0; block < scale_columns; ++block) {
            const float scale = scale_at(scales, row / scale_block * scale_columns + block);
            const std::size_t end = std::min<std::size_t>(k, (block + 1) * scale_block);
            for (std::size_t column = block * scale_block; column < end; ++column) {
                const std::size_t at = row * k + column;
                values[at] = widened[std::to_integer<std::size_t>(weight[at])] * scale;
            }
        }
}

} // namespace moira
