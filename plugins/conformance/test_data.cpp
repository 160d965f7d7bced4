#include "plugins/conformance/test_data.hpp"

#include <cmath>
#include <cstring>

namespace moira {
namespace {

std::uint16_t to_bf16(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/// For normal values within binary16's range, cut instead of rounded: any value of the format will do.
std::uint16_t to_f16(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = bits >> 16 & 0x8000;
    const int exponent = static_cast<int>(bits >> 23 & 0xff) - 127 + 15;
    if (exponent <= 0)
        return static_cast<std::uint16_t>(sign);
    return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(exponent) << 10 | (bits >> 13 & 0x3ff));
}

template <class T>
void append(std::vector<std::byte>& bytes, T value) {
    const std::size_t at = bytes.size();
    bytes.resize(at + sizeof value);
    std::memcpy(bytes.data() + at, &value, sizeof value);
}

/// Any E4M3 code but NaN (0x7f, 0xff).
std::uint8_t random_f8(number_source& numbers) {
    const auto code = static_cast<std::uint8_t>(numbers.below(256));
    return (code & 0x7f) == 0x7f ? static_cast<std::uint8_t>(code & 0x80) : code;
}

std::uint32_t blocks(std::uint32_t count, std::uint32_t block) {
    return (count + block - 1) / block;
}

} // namespace

std::uint64_t number_source::next() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

std::uint32_t number_source::below(std::uint32_t limit) noexcept {
    return static_cast<std::uint32_t>((next() >> 32) * limit >> 32);
}

float number_source::signed_unit() noexcept {
    return static_cast<float>(static_cast<std::int32_t>(next() >> 40) - (1 << 23)) * 0x1p-23f;
}

std::vector<float> random_floats(std::uint64_t seed, std::size_t count, float scale) {
    number_source numbers(seed);
    std::vector<float> values(count);
    for (float& value : values)
        value = numbers.signed_unit() * scale;
    return values;
}

stored_weight random_weight(std::uint64_t seed, const moira_quantization& quantization, std::uint32_t n,
                            std::uint32_t k) {
    number_source numbers(seed);
    stored_weight weight;
    const float scale = 1.0f / std::sqrt(static_cast<float>(k));
    for (std::uint64_t i = 0; i < std::uint64_t{n} * k; ++i) {
        const float value = numbers.signed_unit() * scale;
        switch (quantization.weight_type) {
        case MOIRA_TYPE_BF16:
            append(weight.bytes, to_bf16(value));
            break;
        case MOIRA_TYPE_F16:
            append(weight.bytes, to_f16(value));
            break;
        case MOIRA_TYPE_F8_E4M3:
            append(weight.bytes, random_f8(numbers));
            break;
        default:
            append(weight.bytes, value);
        }
    }
    if (quantization.scale_mode == MOIRA_SCALE_BLOCK) {
        // E4M3 codes at random have a root mean square near 110.
        const std::uint64_t count = std::uint64_t{blocks(n, quantization.block_n)} * blocks(k, quantization.block_k);
        for (std::uint64_t i = 0; i < count; ++i)
            weight.scales.push_back((1.5f + numbers.signed_unit()) * scale / 110.0f);
    }
    return weight;
}

std::uint32_t element_bytes(std::uint32_t type) {
    return type == MOIRA_TYPE_F32 ? 4 : type == MOIRA_TYPE_F8_E4M3 ? 1 : 2;
}

std::string type_name(std::uint32_t type) {
    static constexpr const char* names[] = {"f32", "bf16", "f16", "f8_e4m3", "f8_e8m0", "f4_e2m1"};
    return type < std::size(names) ? names[type] : "unknown";
}

moira_quantization plain(std::uint32_t type) {
    return {type, MOIRA_SCALE_NONE, 0, 0, 0, MOIRA_ACTIVATION_KEEP};
}

moira_quantization block_f8() {
    return {MOIRA_TYPE_F8_E4M3, MOIRA_SCALE_BLOCK, MOIRA_TYPE_F32, 128, 128, MOIRA_ACTIVATION_KEEP};
}

} // namespace moira
