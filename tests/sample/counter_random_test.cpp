#include "core/sample/counter_random.hpp"
#include "core/sample/sampler.hpp"

#include <array>
#include <cstdint>
#include <doctest/doctest.h>
#include <set>

using namespace moira;

TEST_CASE("philox gives the known answers that its authors publish with Random123") {
    using words = std::array<std::uint32_t, 4>;
    CHECK(philox_4x32_10({0, 0, 0, 0}, {0, 0}) == words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    CHECK(philox_4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
          words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(philox_4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
          words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("uniform_at takes the upper 53 bits of the first two words") {
    CHECK(uniform_at(0, 0) == static_cast<double>(0x6627e8d5e169c58dULL >> 11) / 9007199254740992.0);
}

TEST_CASE("uniform numbers depend on every bit of seed and position") {
    std::set<double> numbers{uniform_at(0, 0)};
    for (int bit = 0; bit < 64; ++bit) {
        CHECK(numbers.insert(uniform_at(std::uint64_t{1} << bit, 0)).second);
        CHECK(numbers.insert(uniform_at(0, std::uint64_t{1} << bit)).second);
    }
}

TEST_CASE("uniform numbers fill [0, 1) evenly along positions and along seeds") {
    constexpr int cells = 64;
    constexpr int draws = 64'000;
    for (const bool along_seeds : {false, true}) {
        std::array<int, cells> counts{};
        for (std::uint64_t i = 0; i < draws; ++i) {
            const double number = along_seeds ? uniform_at(i, 7) : uniform_at(7, i);
            REQUIRE(number >= 0.0);
            REQUIRE(number < 1.0);
            ++counts[static_cast<std::size_t>(number * cells)];
        }
        double chi_square = 0;
        for (const int count : counts)
            chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
        // 63 degrees of freedom: mean 63, standard deviation 11.2; six deviations.
        CHECK(chi_square < 130);
    }
}
