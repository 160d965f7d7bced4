#include "core/model/fp8_quantizer.hpp"
#include "core/pack/unit_writer.hpp"
#include "plugins/moira_plugin.h"

#include <cmath>
#include <doctest/doctest.h>
#include <random>

using namespace moira;

namespace {

double error_of(const std::vector<float>& values, std::uint32_t n, std::uint32_t k) {
    const auto source = std::as_bytes(std::span(values));
    std::vector<std::byte> weight(fp8_weight_bytes(n, k)), scales(fp8_scale_bytes(n, k));
    REQUIRE(quantize_to_fp8(MOIRA_TYPE_F32, source, n, k, weight, scales));
    return rounding_error(MOIRA_TYPE_F32, source, n, k, weight, scales);
}

} // namespace

TEST_CASE("the error of rounding is relative to the largest weight of each block") {
    // 448 keeps the scale at 1; 432 lies in the middle between 416 and 448, 16 from both.
    CHECK(error_of({448, 432, 1, 0}, 2, 2) == doctest::Approx(16.0 / 448));
    CHECK(error_of({448, 416, 1, 0}, 2, 2) == 0);
    CHECK(error_of({0, 0, 0, 0}, 2, 2) == 0);
    // Another block with small weights counts by its own largest one.
    std::vector<float> wide(130, 0);
    wide[0] = 1e6F;
    wide[128] = 448e-3F;
    wide[129] = 432e-3F;
    CHECK(error_of(wide, 1, 130) == doctest::Approx(16.0 / 448).epsilon(0.01));
}

TEST_CASE("no matrix is further off than half a step of the largest binade") {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (int times = 0; times < 20; ++times) {
        std::vector<float> values(150 * 140);
        for (float& value : values)
            value = normal(random);
        const double error = error_of(values, 150, 140);
        CHECK(error > 0.02);
        CHECK(error <= 1.0 / 28 + 1e-6);
    }
}
