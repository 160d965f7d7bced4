#include "core/evaluate/confidence_interval.hpp"

#include <cmath>
#include <doctest/doctest.h>
#include <random>

using namespace moira;

namespace {

token_blocks blocks_of(const std::vector<double>& values) {
    token_blocks made;
    for (const auto value : values)
        made.add({value});
    return made;
}

} // namespace

TEST_CASE("Wilson's interval has the published values") {
    // 8 of 10: 0.4902 to 0.9433; nothing of 10: 0 to 0.2775; all of 10: 0.7225 to 1.
    const auto most = wilson_interval(8, 10), none = wilson_interval(0, 10), all = wilson_interval(10, 10);
    CHECK(most.low == doctest::Approx(0.4901625).epsilon(1e-6));
    CHECK(most.high == doctest::Approx(0.9433178).epsilon(1e-6));
    CHECK(none.low == doctest::Approx(0).epsilon(1e-12));
    CHECK(none.high == doctest::Approx(0.2775328).epsilon(1e-6));
    CHECK(all.low == doctest::Approx(0.7224672).epsilon(1e-6));
    CHECK(all.high == doctest::Approx(1).epsilon(1e-12));
    CHECK(wilson_interval(0, 0).low == 0);
    CHECK(wilson_interval(0, 0).high == 1);
}

TEST_CASE("blocks keep sums, counts and means of any number of tokens") {
    for (const std::size_t count : {1U, 2U, 255U, 256U, 257U, 1000U, 100'000U}) {
        token_blocks blocks;
        double expected = 0;
        for (std::size_t token = 0; token < count; ++token) {
            const auto value = static_cast<double>(token % 7);
            blocks.add({value, 2 * value, 0, 1});
            expected += value;
        }
        CAPTURE(count);
        CHECK(blocks.tokens() == count);
        CHECK(blocks.sum(0) == expected);
        CHECK(blocks.sum(1) == 2 * expected);
        CHECK(blocks.mean(3) == 1);
    }
    CHECK(token_blocks().mean(0) == 0);
}

TEST_CASE("without spread the interval is the value itself, exactly") {
    const auto ones = blocks_of(std::vector<double>(5'000, 1.0)).bootstrap(0);
    CHECK(ones.low == 1.0);
    CHECK(ones.high == 1.0);
    const auto single = blocks_of({0.25}).bootstrap(0);
    CHECK(single.low == 0.25);
    CHECK(single.high == 0.25);
}

TEST_CASE("the interval is as wide as the standard error says, and the same each time") {
    std::mt19937 random(3);
    std::normal_distribution<double> values(5, 2);
    std::vector<double> drawn(50'000);
    for (auto& each : drawn)
        each = values(random);
    const auto blocks = blocks_of(drawn);
    const auto range = blocks.bootstrap(0);
    const double half = 1.96 * 2 / std::sqrt(50'000.0);
    // 196 blocks give the standard error to about 5 %, 2,000 resamplings the ends to a few percent.
    const double relative = (range.high - range.low) / 2 / half;
    CHECK(relative > 0.8);
    CHECK(relative < 1.2);
    CHECK(range.low < blocks.mean(0));
    CHECK(range.high > blocks.mean(0));
    const auto again = blocks_of(drawn).bootstrap(0);
    CHECK(again.low == range.low);
    CHECK(again.high == range.high);
}

TEST_CASE("tokens that are alike in stretches make the interval wider than single tokens would") {
    std::mt19937 random(4);
    std::normal_distribution<double> values(0, 1);
    std::vector<double> alike, single;
    for (int stretch = 0; stretch < 500; ++stretch) {
        const double value = values(random);
        for (int token = 0; token < 100; ++token) {
            alike.push_back(value);
            single.push_back(values(random));
        }
    }
    const auto wide = blocks_of(alike).bootstrap(0), narrow = blocks_of(single).bootstrap(0);
    // By theory a factor of sqrt(100).
    CHECK(wide.high - wide.low > 5 * (narrow.high - narrow.low));
}
