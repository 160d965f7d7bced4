#include "core/base/float_formats.hpp"
#include "plugins/moira_plugin.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("half precision widens exactly, subnormals and infinities included") {
    CHECK(f16_to_f32(0x3c00) == 1.0F);
    CHECK(f16_to_f32(0xc000) == -2.0F);
    CHECK(f16_to_f32(0x7bff) == 65504.0F);
    CHECK(f16_to_f32(0x0001) == std::ldexp(1.0F, -24));
    CHECK(f16_to_f32(0x0400) == std::ldexp(1.0F, -14));
    CHECK(std::signbit(f16_to_f32(0x8000)));
    CHECK(std::isinf(f16_to_f32(0xfc00)));
    CHECK(std::isnan(f16_to_f32(0x7e00)));
}

TEST_CASE("bfloat16 is the upper half of a float") {
    CHECK(bf16_to_f32(0x3f80) == 1.0F);
    CHECK(bf16_to_f32(0xff80) == -INFINITY);
}

TEST_CASE("widening refuses other types and sizes that do not match") {
    std::array<float, 2> values{7, 7};
    const std::array<std::uint16_t, 2> halves{0x3f80, 0x4000};
    CHECK(widen_to_f32(MOIRA_TYPE_BF16, std::as_bytes(std::span(halves)), values));
    CHECK(values == std::array<float, 2>{1, 2});
    CHECK_FALSE(widen_to_f32(MOIRA_TYPE_F32, std::as_bytes(std::span(halves)), values));
    CHECK_FALSE(widen_to_f32(MOIRA_TYPE_F8_E4M3, std::as_bytes(std::span(halves)), values));
    CHECK(values == std::array<float, 2>{1, 2});
}
