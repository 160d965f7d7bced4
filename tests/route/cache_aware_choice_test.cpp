#include "core/route/cache_aware_choice.hpp"

#include <doctest/doctest.h>
#include <limits>
#include <vector>

using namespace moira;

namespace {

using ids = std::vector<std::int32_t>;

struct choice {
    ids chosen;
    std::vector<float> weights;
    std::size_t replaced = 0;
    std::vector<std::uint8_t> present;
};

/// Two experts per token of four candidates; the first rank is sacred.
choice choose(const ids& ranked, const std::vector<float>& scores, std::vector<std::uint8_t> present,
              double window = 0.5, bool normalize = false) {
    const cache_aware_rule rule{2, 4, 1, window, normalize, 1.0F};
    choice made;
    made.present = std::move(present);
    made.chosen.resize(ranked.size() / 2);
    made.weights.resize(ranked.size() / 2);
    made.replaced = choose_cache_aware(rule, {ranked, scores}, made.present, made.chosen, made.weights);
    return made;
}

} // namespace

TEST_CASE("an absent expert gives way to the best one in memory inside the window") {
    const auto made = choose({0, 1, 2, 3}, {0.5F, 0.25F, 0.1875F, 0.125F}, {1, 0, 0, 1});
    CHECK(made.chosen == ids{0, 3});
    CHECK(made.weights == std::vector<float>{0.5F, 0.125F});
    CHECK(made.replaced == 1);
    // 2 is in memory too, and better.
    CHECK(choose({0, 1, 2, 3}, {0.5F, 0.25F, 0.1875F, 0.125F}, {1, 0, 1, 1}).chosen == ids{0, 2});
}

TEST_CASE("outside of the window the router's choice stays and counts as present afterwards") {
    const auto made = choose({0, 1, 2, 3}, {0.5F, 0.25F, 0.125F, 0.0625F}, {1, 0, 0, 1});
    CHECK(made.chosen == ids{0, 1});
    CHECK(made.replaced == 0);
    CHECK(made.present == std::vector<std::uint8_t>{1, 1, 0, 1});
    CHECK(choose({0, 1, 2, 3}, {0.5F, 0.25F, 0.24F, 0.24F}, {1, 0, 1, 1}, 0.0).replaced == 0);
}

TEST_CASE("a sacred rank is loaded, not replaced, and serves later ranks of other rows") {
    // Row 0 wants 0 first; row 1 would have had to load 2, and takes 0, which is loaded anyway.
    const auto made =
        choose({0, 1, 2, 3, 1, 2, 0, 3}, {0.5F, 0.5F, 0.25F, 0.25F, 0.5F, 0.25F, 0.25F, 0.125F}, {0, 1, 0, 0});
    CHECK(made.chosen == ids{0, 1, 1, 0});
    CHECK(made.replaced == 1);
    CHECK(made.present == std::vector<std::uint8_t>{1, 1, 0, 0});
}

TEST_CASE("no row takes an expert twice, not even one of its own later ranks") {
    const cache_aware_rule rule{3, 4, 1, 1.0, false, 1.0F};
    const ids ranked{0, 1, 2, 3};
    const std::vector<float> scores{0.5F, 0.25F, 0.125F, 0.125F};
    std::vector<std::uint8_t> present{1, 0, 1, 0};
    ids chosen(3);
    std::vector<float> weights(3);
    // 2 is in memory but this row's own third choice.
    CHECK(choose_cache_aware(rule, {ranked, scores}, present, chosen, weights) == 0);
    CHECK(chosen == ids{0, 1, 2});
}

TEST_CASE("weights are normalised over what was chosen, where the architecture does that") {
    const auto made = choose({0, 1, 2, 3}, {0.5F, 0.25F, 0.125F, 0.125F}, {1, 0, 1, 1}, 0.5, true);
    CHECK(made.chosen == ids{0, 2});
    CHECK(made.weights[0] == doctest::Approx(0.8));
    CHECK(made.weights[1] == doctest::Approx(0.2));
}

TEST_CASE("a score that is no number stands in for nothing") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    CHECK(choose({0, 1, 2, 3}, {0.5F, 0.25F, nan, nan}, {1, 0, 1, 1}, 1.0).chosen == ids{0, 1});
    CHECK(choose({0, 1, 2, 3}, {0.5F, nan, 0.25F, 0.25F}, {1, 0, 1, 1}, 1.0).chosen == ids{0, 1});
}
