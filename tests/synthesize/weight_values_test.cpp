#include "core/synthesize/weight_values.hpp"

#include "core/base/float_formats.hpp"

#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <set>

using namespace moira;

namespace {

std::vector<std::byte> bytes_of(const synthetic_tensor& tensor, std::uint64_t seed) {
    std::vector<std::byte> bytes(tensor.bytes());
    weight_values(tensor, seed).fill(0, bytes);
    return bytes;
}

std::vector<float> bf16_values(const synthetic_tensor& tensor, std::uint64_t seed) {
    const auto bytes = bytes_of(tensor, seed);
    std::vector<float> values(tensor.elements());
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, bytes.data() + 2 * i, sizeof bits);
        values[i] = bf16_to_f32(bits);
    }
    return values;
}

float e4m3_value(std::uint8_t code) {
    const int exponent = (code >> 3) & 15, fraction = code & 7;
    const float size = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9)
                                     : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
    return (code & 0x80) != 0 ? -size : size;
}

// Borders everywhere: no dimension is a multiple of four, blocks are cut on both sides.
const synthetic_tensor bf16_weight{"w", tensor_type::bf16, {150, 261}, 0.0, 0.05};
const synthetic_tensor f8_weight{"w", tensor_type::f8_e4m3, {150, 261}, 0.0, 0.05};
const synthetic_tensor f8_scales{"w_scale_inv", tensor_type::f32, {2, 3}, 0.0, 0.05, true};
const synthetic_tensor f8_stack{"s", tensor_type::f8_e4m3, {3, 150, 261}, 0.0, 0.05};

} // namespace

TEST_CASE("any part of a tensor is the same as in the whole") {
    for (const auto* tensor : {&bf16_weight, &f8_weight, &f8_scales, &f8_stack}) {
        const auto whole = bytes_of(*tensor, 7);
        const auto element_bytes = tensor_type_bytes(tensor->type);
        const weight_values values(*tensor, 7);
        for (const std::uint64_t step : {4u, 12u, 1000u}) {
            std::vector<std::byte> joined;
            for (std::uint64_t first = 0; first < tensor->elements(); first += step) {
                std::vector<std::byte> part(std::min(step, tensor->elements() - first) * element_bytes);
                values.fill(first, part);
                joined.insert(joined.end(), part.begin(), part.end());
            }
            CHECK_MESSAGE(joined == whole, tensor->name, " in steps of ", step);
        }
    }
}

TEST_CASE("BF16 values have the mean and the spread that were asked for, and an end") {
    const synthetic_tensor norm{"norm", tensor_type::bf16, {20'000}, 1.0, 0.1};
    const auto values = bf16_values(norm, 1);
    double sum = 0, squares = 0;
    float largest = 0;
    for (const float value : values) {
        sum += value;
        squares += (value - 1.0) * (value - 1.0);
        largest = std::max(largest, std::abs(value - 1.0f));
    }
    const auto count = static_cast<double>(values.size());
    CHECK(sum / count == doctest::Approx(1.0).epsilon(0.005));
    CHECK(std::sqrt(squares / count) == doctest::Approx(0.1).epsilon(0.02));
    CHECK(largest < 0.38f);
}

TEST_CASE("an FP8 weight is the BF16 weight of its seed, rounded by its block's scale") {
    const auto wanted = bf16_values(bf16_weight, 3);
    const auto codes = bytes_of(f8_weight, 3), scale_bytes = bytes_of(f8_scales, 3);
    std::array<float, 6> scales{};
    std::memcpy(scales.data(), scale_bytes.data(), sizeof scales);
    CHECK(std::set<float>(scales.begin(), scales.end()).size() > 1);
    for (std::size_t row = 0; row < 150; ++row)
        for (std::size_t column = 0; column < 261; ++column) {
            const auto at = row * 261 + column;
            const auto code = static_cast<std::uint8_t>(codes[at]);
            REQUIRE((code & 0x7f) != 0x7f); // NaN
            const float scale = scales[row / 128 * 3 + column / 128];
            // Half a step of three fraction bits, half of the smallest step, and BF16's own rounding.
            const float allowed = std::abs(wanted[at]) * (1.0f / 16 + 1.0f / 256) + scale * std::ldexp(1.0f, -10);
            REQUIRE(std::abs(e4m3_value(code) * scale - wanted[at]) <= allowed);
        }
}

TEST_CASE("every matrix of a stack has scales of its own") {
    const synthetic_tensor scales{"s_scale_inv", tensor_type::f32, {3, 2, 3}, 0.0, 0.05, true};
    const auto bytes = bytes_of(scales, 3);
    std::array<float, 18> values{};
    std::memcpy(values.data(), bytes.data(), sizeof values);
    const auto matrix = [&](std::size_t i) {
        return std::vector<float>(values.begin() + static_cast<long>(i * 6),
                                  values.begin() + static_cast<long>(i * 6 + 6));
    };
    CHECK(matrix(0) != matrix(1));
    CHECK(matrix(1) != matrix(2));
}

TEST_CASE("another seed or another name gives other values") {
    auto renamed = bf16_weight;
    renamed.name = "v";
    CHECK(bytes_of(bf16_weight, 1) == bytes_of(bf16_weight, 1));
    CHECK(bytes_of(bf16_weight, 1) != bytes_of(bf16_weight, 2));
    CHECK(bytes_of(bf16_weight, 1) != bytes_of(renamed, 1));
}
