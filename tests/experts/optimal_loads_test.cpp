#include "core/experts/optimal_loads.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

constexpr std::uint16_t layer_of[] = {0, 1, 0, 1, 0};
constexpr std::uint32_t begin_of[] = {0, 1, 2, 3, 4, 5};
constexpr std::uint16_t wanted[] = {0, 0, 1, 0, 0};
const visit_list five_visits{2, 4, layer_of, begin_of, wanted};

} // namespace

TEST_CASE("who is in memory at the beginning need not be loaded, and leaves when it is wanted last") {
    CHECK(count_optimal_loads(five_visits, {.slots = 2}).loads == 3);
    const std::uint32_t resident[] = {0, 3}; // expert 0 of layer 0, and one that nobody wants
    const auto counts = count_optimal_loads(five_visits, {.slots = 2, .resident = resident});
    CHECK(counts.loads == 2);
    CHECK(counts.hits == 3);
    CHECK(counts.layer_loads == std::vector<std::uint64_t>{1, 1});
    CHECK(counts.hit_rate() == doctest::Approx(0.6));
}

TEST_CASE("without bypass what was wanted stays; visits before the first counted one are only played") {
    CHECK(count_optimal_loads(five_visits, {.slots = 1, .bypass = false}).loads == 5);
    CHECK(count_optimal_loads(five_visits, {.slots = 1}).loads == 4);
    CHECK(count_optimal_loads(five_visits, {.slots = 2, .first_counted = 3}).loads == 0);
    CHECK(count_optimal_loads({}, {.slots = 1}).hit_rate() == 0);
}
