#include "core/model/checkpoint_weight.hpp"

#include "core/base/float_formats.hpp"
#include "core/model/fp8_quantizer.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <limits>
#include <random>

using namespace moira;

namespace {

float e4m3(std::uint8_t code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const double size = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8.0 + mantissa, exponent - 10);
    return static_cast<float>((code & 0x80) != 0 ? -size : size);
}

/// By search over all codes; of two that are as near the even one.
std::uint8_t nearest(float value) {
    std::uint8_t best = 0;
    for (std::uint8_t code = 1; code < 0x7f; ++code) {
        const double nearer = std::abs(e4m3(best) - std::abs(static_cast<double>(value))) -
                              std::abs(e4m3(code) - std::abs(static_cast<double>(value)));
        if (nearer > 0 || (nearer == 0 && code % 2 == 0))
            best = code;
    }
    return static_cast<std::uint8_t>(best | (std::signbit(value) ? 0x80 : 0));
}

struct quantized {
    std::vector<std::byte> weight, scales;
    float scale(std::size_t index) const {
        float value = 0;
        std::memcpy(&value, scales.data() + index * sizeof value, sizeof value);
        return value;
    }
    std::uint8_t code(std::size_t index) const { return std::to_integer<std::uint8_t>(weight[index]); }
};

result<quantized> quantize(std::span<const float> values, std::uint32_t n, std::uint32_t k) {
    quantized made{std::vector<std::byte>(fp8_weight_bytes(n, k)), std::vector<std::byte>(fp8_scale_bytes(n, k))};
    if (auto done = quantize_to_fp8(MOIRA_TYPE_F32, std::as_bytes(values), n, k, made.weight, made.scales); !done)
        return tl::unexpected(done.error());
    return made;
}

std::vector<float> random_values(std::size_t count, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<float> values(count);
    for (auto& value : values) {
        const auto bits = random();
        value = std::ldexp(static_cast<float>(bits % 4096) - 2048.0F, -static_cast<int>(bits >> 28) - 12);
    }
    return values;
}

} // namespace

TEST_CASE("every number between two E4M3 values goes to the nearer one, ties to the even one") {
    // The largest is 448, so the scale is exactly 1. Neighbours of every midpoint, and every value.
    std::vector<float> values = {448.0F, -448.0F};
    for (std::uint8_t code = 0; code < 0x7e; ++code) {
        const float low = e4m3(code), middle = (low + e4m3(static_cast<std::uint8_t>(code + 1))) / 2;
        for (const float value : {low, middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 448.0F)}) {
            values.push_back(value);
            values.push_back(-value);
        }
    }
    for (std::size_t begin = 0; begin < values.size(); begin += 127) {
        std::vector<float> row(128);
        row[0] = 448.0F;
        const auto count = std::min<std::size_t>(127, values.size() - begin);
        std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(begin), count, row.begin() + 1);
        const auto made = quantize(row, 1, 128);
        REQUIRE(made);
        REQUIRE(made->scale(0) == 1.0F);
        for (std::size_t index = 0; index < row.size(); ++index) {
            CAPTURE(row[index]);
            CHECK(made->code(index) == nearest(row[index]));
        }
    }
}

TEST_CASE("each block has its own scale, partial ones at the edges too") {
    const std::uint32_t sides[][2] = {{1, 1}, {128, 128}, {129, 128}, {128, 129}, {257, 300}, {3, 640}, {640, 3}};
    for (const auto& [n, k] : sides) {
        CAPTURE(n);
        CAPTURE(k);
        const auto values = random_values(std::size_t{n} * k, n + k);
        const auto made = quantize(values, n, k);
        REQUIRE(made);
        const auto blocks = scale_shape(n, k);
        REQUIRE(made->scales.size() == static_cast<std::size_t>(blocks[0] * blocks[1]) * sizeof(float));
        std::vector<float> largest(static_cast<std::size_t>(blocks[0] * blocks[1]));
        const auto block_of = [&](std::size_t index) {
            return index / k / 128 * static_cast<std::size_t>(blocks[1]) + index % k / 128;
        };
        for (std::size_t index = 0; index < values.size(); ++index)
            largest[block_of(index)] = std::max(largest[block_of(index)], std::abs(values[index]));
        std::vector<float> back(values.size());
        widen_block_scaled(made->weight, made->scales, n, k, back);
        for (std::size_t index = 0; index < values.size(); ++index) {
            const float scale = made->scale(block_of(index));
            REQUIRE(scale == largest[block_of(index)] / 448.0F);
            REQUIRE(made->code(index) == nearest(std::min(std::max(values[index] / scale, -448.0F), 448.0F)));
            REQUIRE(back[index] == e4m3(made->code(index)) * scale);
            REQUIRE(std::abs(back[index] - values[index]) <= largest[block_of(index)] / 28.0F * 1.0001F);
        }
    }
}

TEST_CASE("zeros, the smallest and the largest numbers keep what they can") {
    const auto zeros = quantize(std::vector<float>{0.0F, -0.0F}, 1, 2);
    REQUIRE(zeros);
    CHECK(zeros->scale(0) == 1.0F);
    CHECK(zeros->code(0) == 0);
    CHECK(zeros->code(1) == 0x80);

    const float tiny = std::numeric_limits<float>::denorm_min();
    const auto subnormal = quantize(std::vector<float>{tiny, 0.0F}, 1, 2);
    REQUIRE(subnormal);
    CHECK(subnormal->scale(0) == std::numeric_limits<float>::min());
    CHECK(subnormal->code(0) == 0); // 2^-149 is 2^-23 of the scale, below half of the smallest E4M3 value

    const float huge = std::numeric_limits<float>::max();
    const auto large = quantize(std::vector<float>{huge, -huge}, 2, 1);
    REQUIRE(large);
    CHECK(large->code(0) == 0x7e);
    CHECK(large->code(1) == 0xfe);
    CHECK(check_scales(large->scales, "s"));
}

TEST_CASE("weights that no scale can hold are refused") {
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> values(300, 1.0F);
        values[299] = bad;
        const auto made = quantize(values, 2, 150);
        REQUIRE_FALSE(made);
        CHECK(made.error().code == errc::corrupt_file);
    }
    std::vector<std::byte> room(64);
    CHECK(quantize_to_fp8(MOIRA_TYPE_F8_E4M3, room, 8, 8, room, room).error().code == errc::invalid_argument);
    CHECK(quantize_to_fp8(MOIRA_TYPE_BF16, room, 8, 8, room, room).error().code == errc::invalid_argument);
    CHECK(quantize_to_fp8(MOIRA_TYPE_BF16, room, 4, 8, std::span(room).first(31), room).error().code ==
          errc::invalid_argument);
}

TEST_CASE("BF16 is quantised as its values in F32, at any address") {
    const auto values = random_values(200 * 130, 5);
    std::vector<float> rounded(values.size());
    std::vector<std::byte> halves(values.size() * 2 + 1);
    for (std::size_t index = 0; index < values.size(); ++index) {
        const auto bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(values[index]) >> 16);
        std::memcpy(halves.data() + 1 + index * 2, &bits, 2);
        rounded[index] = std::bit_cast<float>(std::uint32_t{bits} << 16);
    }
    const auto expected = quantize(rounded, 200, 130);
    REQUIRE(expected);
    quantized made{std::vector<std::byte>(200 * 130), std::vector<std::byte>(fp8_scale_bytes(200, 130))};
    REQUIRE(quantize_to_fp8(MOIRA_TYPE_BF16, std::span(halves).subspan(1), 200, 130, made.weight, made.scales));
    CHECK(made.weight == expected->weight);
    CHECK(made.scales == expected->scales);
}

TEST_CASE("every finite F16 number is quantised as its value in F32") {
    constexpr std::uint32_t n = 248, k = 256; // 2 signs x 31 exponents x 1024 mantissas
    std::vector<std::byte> halves(std::size_t{n} * k * 2);
    std::vector<float> values(std::size_t{n} * k);
    std::size_t at = 0;
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        if ((bits & 0x7c00) == 0x7c00)
            continue;
        const auto half = static_cast<std::uint16_t>(bits);
        std::memcpy(halves.data() + at * 2, &half, 2);
        values[at++] = f16_to_f32(half);
    }
    REQUIRE(at == values.size());
    const auto expected = quantize(values, n, k);
    REQUIRE(expected);
    quantized made{std::vector<std::byte>(values.size()), std::vector<std::byte>(fp8_scale_bytes(n, k))};
    REQUIRE(quantize_to_fp8(MOIRA_TYPE_F16, halves, n, k, made.weight, made.scales));
    CHECK(made.weight == expected->weight);
    CHECK(made.scales == expected->scales);
    for (const std::uint16_t bad : {0x7c00, 0xfc00, 0x7e00}) {
        std::memcpy(halves.data() + 1000, &bad, 2);
        CHECK(quantize_to_fp8(MOIRA_TYPE_F16, halves, n, k, made.weight, made.scales).error().code ==
              errc::corrupt_file);
    }
}

TEST_CASE("scales are finite and not negative") {
    const auto accepted = [](float scale) {
        std::vector<float> scales(5, 1.0F);
        scales[3] = scale;
        return check_scales(std::as_bytes(std::span(scales)), "s").has_value();
    };
    CHECK(accepted(0.0F));
    CHECK(accepted(-0.0F));
    CHECK(accepted(std::numeric_limits<float>::denorm_min()));
    CHECK(accepted(std::numeric_limits<float>::max() / 448.0F));
    CHECK_FALSE(accepted(std::numeric_limits<float>::max()));
    CHECK_FALSE(accepted(-1.0F));
    CHECK_FALSE(accepted(std::numeric_limits<float>::infinity()));
    CHECK_FALSE(accepted(std::numeric_limits<float>::quiet_NaN()));
    CHECK(check_scales({}, "s"));
}

TEST_CASE("the shape of scales does not overflow") {
    CHECK(scale_shape(1, 128) == std::vector<std::int64_t>{1, 1});
    CHECK(scale_shape(129, 256) == std::vector<std::int64_t>{2, 2});
    constexpr auto most = std::numeric_limits<std::int64_t>::max();
    CHECK(scale_shape(most, 0) == std::vector<std::int64_t>{most / 128 + 1, 0});
}
