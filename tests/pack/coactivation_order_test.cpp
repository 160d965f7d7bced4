#include "core/pack/coactivation_order.hpp"

#include <algorithm>
#include <array>
#include <doctest/doctest.h>
#include <numeric>
#include <random>

using namespace moira;

namespace {

using token_ids = std::vector<std::uint16_t>;

std::vector<std::uint32_t> places_of(const std::vector<std::uint32_t>& order) {
    std::vector<std::uint32_t> places(order.size());
    for (std::uint32_t place = 0; place < order.size(); ++place)
        places[order[place]] = place;
    return places;
}

} // namespace

TEST_CASE("experts that are chosen together come to lie side by side") {
    coactivation_counts counts(8);
    for (int times = 0; times < 9; ++times)
        counts.add(token_ids{6, 1});
    for (int times = 0; times < 5; ++times)
        counts.add(token_ids{1, 4});
    for (int times = 0; times < 3; ++times)
        counts.add(token_ids{6, 4}); // would close a ring
    counts.add(token_ids{0, 7});
    const auto order = coactivation_order(counts);
    CHECK(order == std::vector<std::uint32_t>{6, 1, 4, 0, 7, 2, 3, 5});
}

TEST_CASE("an order names every expert once, whatever was recorded") {
    std::mt19937 random(7);
    for (const std::uint32_t experts : {1U, 2U, 5U, 64U}) {
        coactivation_counts counts(experts);
        for (int token = 0; token < 40; ++token) {
            token_ids ids(experts);
            std::iota(ids.begin(), ids.end(), std::uint16_t{0});
            std::shuffle(ids.begin(), ids.end(), random);
            ids.resize(std::min<std::size_t>(ids.size(), 1 + random() % 4));
            counts.add(ids);
        }
        auto order = coactivation_order(counts);
        CHECK(order == coactivation_order(counts));
        std::sort(order.begin(), order.end());
        for (std::uint32_t expert = 0; expert < experts; ++expert)
            CHECK(order[expert] == expert);
    }
}

TEST_CASE("experts in pairs that are always chosen together need half the reads") {
    // Expert e goes with e + 8: far apart by number.
    std::mt19937 random(3);
    coactivation_counts counts(16);
    std::vector<token_ids> tokens;
    for (int token = 0; token < 200; ++token) {
        const auto a = static_cast<std::uint16_t>(random() % 8),
                   b = static_cast<std::uint16_t>((a + 1 + random() % 7) % 8);
        tokens.push_back({a, b, static_cast<std::uint16_t>(a + 8), static_cast<std::uint16_t>(b + 8)});
        counts.add(tokens.back());
    }
    std::vector<std::uint32_t> by_number(16);
    std::iota(by_number.begin(), by_number.end(), 0U);
    std::uint32_t before = 0, after = 0;
    for (const auto& ids : tokens) {
        before += reads_of(ids, places_of(by_number));
        after += reads_of(ids, places_of(coactivation_order(counts)));
    }
    CHECK(after <= 400);
    CHECK(before > 500);
}
