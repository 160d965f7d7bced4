#include "core/model/model_shape.hpp"

#include <cmath>
#include <doctest/doctest.h>
#include <map>
#include <string>

using namespace moira;

namespace {

struct expected_angle {
    const char* model;
    std::int32_t position, pair;
    double cosine, sine;
};

constexpr expected_angle expected[] = {
#include "tests/model/rope_expected.inc"
};

rope_shape rope_of(std::int32_t width, double theta, rope_shape::scaling_kind scaling, double factor,
                   std::int32_t original_context) {
    rope_shape rope;
    rope.width = width;
    rope.theta = theta;
    rope.scaling = scaling;
    rope.factor = factor;
    rope.original_context = original_context;
    rope.mscale = rope.mscale_all_dim = 0.0;
    return rope;
}

rope_shape with_magnitudes(rope_shape rope, double mscale, double mscale_all_dim) {
    rope.mscale = mscale;
    rope.mscale_all_dim = mscale_all_dim;
    return rope;
}

std::map<std::string, rope_shape> known_models() {
    using kind = rope_shape::scaling_kind;
    const auto deepseek = rope_of(64, 1e4, kind::yarn, 40.0, 4096);
    return {
        {"plain", rope_of(16, 1e4, kind::none, 1.0, 0)},
        {"linear", rope_of(16, 1e4, kind::linear, 4.0, 0)},
        {"deepseek_v3", with_magnitudes(deepseek, 1.0, 1.0)},
        {"unequal_magnitudes", with_magnitudes(deepseek, 1.0, 0.707)},
        {"qwen3_yarn", rope_of(128, 1e6, kind::yarn, 4.0, 32768)},
        {"llama3", rope_of(128, 5e5, kind::llama3, 8.0, 8192)},
    };
}

} // namespace

TEST_CASE("rope tables hold the published angles of well-known models") {
    constexpr std::int32_t positions = 5001;
    std::map<std::string, std::vector<float>> tables;
    const auto models = known_models();
    for (const auto& [name, rope] : models)
        tables[name] = rope_table(rope, positions);
    // One rounding to float, and angles up to 5,000 whose double has 1e-12 left behind the point.
    constexpr double tolerance = 2e-7;
    for (const auto& row : expected) {
        const auto& table = tables.at(row.model);
        const auto width = static_cast<std::size_t>(models.at(row.model).width);
        REQUIRE(table.size() == positions * width);
        const auto at = static_cast<std::size_t>(row.position) * width + static_cast<std::size_t>(row.pair);
        INFO(row.model << " position " << row.position << " pair " << row.pair);
        CHECK(std::abs(table[at] - row.cosine) <= tolerance);
        CHECK(std::abs(table[at + width / 2] - row.sine) <= tolerance);
    }
}

TEST_CASE("a given attention factor replaces YaRN's own") {
    auto rope = rope_of(16, 1e4, rope_shape::scaling_kind::yarn, 4.0, 512);
    rope.attention_factor = 1.25;
    const auto table = rope_table(rope, 1);
    for (std::size_t pair = 0; pair < 8; ++pair) {
        CHECK(table[pair] == 1.25f);
        CHECK(table[8 + pair] == 0.0f);
    }
}

TEST_CASE("without truncation YaRN's ramp begins between pairs") {
    auto rope = rope_of(64, 1e4, rope_shape::scaling_kind::yarn, 40.0, 4096);
    const auto truncated = rope_table(rope, 2);
    rope.truncate = false;
    CHECK(rope_table(rope, 2) != truncated);
}

TEST_CASE("a table of no positions is empty") {
    CHECK(rope_table(rope_of(16, 1e4, rope_shape::scaling_kind::none, 1.0, 0), 0).empty());
    CHECK(rope_table(rope_of(16, 1e4, rope_shape::scaling_kind::none, 1.0, 0), -5).empty());
}
