#include "core/route/route_calibration.hpp"

#include <doctest/doctest.h>
#include <random>

using namespace moira;

namespace {

route_observation observation(std::uint16_t layer, std::initializer_list<std::uint16_t> chosen) {
    route_observation seen;
    seen.layer = layer;
    seen.top_k = static_cast<std::uint16_t>(chosen.size());
    std::copy(chosen.begin(), chosen.end(), seen.chosen.begin());
    return seen;
}

void predict(route_observation& seen, route_source source, std::initializer_list<std::uint16_t> ids) {
    seen.mark(source);
    std::copy(ids.begin(), ids.end(), seen.predicted[static_cast<std::size_t>(source)].begin());
}

} // namespace

TEST_CASE("recall and precision count what was chosen among the first k predicted") {
    route_calibration known(4, 4);
    auto seen = observation(2, {7, 3, 9, 1});
    predict(seen, route_source::early, {3, 8, 7, 5});
    predict(seen, route_source::control, {7, 3, 9, 1});
    known.observe(seen);
    const auto& early = known.quality(route_source::early);
    CHECK(early.rows == 1);
    CHECK(early.recall_at(1) == doctest::Approx(0.25));
    CHECK(early.recall_at(2) == doctest::Approx(0.25));
    CHECK(early.recall_at(4) == doctest::Approx(0.5));
    CHECK(early.precision_at(1) == doctest::Approx(1.0));
    CHECK(early.precision_at(2) == doctest::Approx(0.5));
    CHECK(early.precision_at(4) == doctest::Approx(0.5));
    CHECK(known.quality(route_source::control).recall_at(4) == 1.0);
    CHECK(known.quality(route_source::layer_input).rows == 0);
    CHECK(known.quality(route_source::layer_input).recall_at(4) == 0.0);
    CHECK(known.quality(route_source::layer_input).precision_at(4) == 0.0);
}

TEST_CASE("a layer or a rank that does not exist is ignored") {
    route_calibration known(2, 2);
    auto outside = observation(2, {1, 2});
    predict(outside, route_source::early, {1, 2});
    known.observe(outside);
    auto wide = observation(1, {1, 2, 3});
    predict(wide, route_source::early, {1, 2, 3});
    known.observe(wide);
    CHECK(known.quality(route_source::early).rows == 0);
    CHECK(route_calibration(-1, 1000).ranks() == static_cast<std::int32_t>(route_ids_max));
}

TEST_CASE("probabilities per layer and rank approach the true rates, and a control is always 1") {
    constexpr std::int32_t layers = 3, ranks = 4;
    constexpr int rows = 4'000;
    std::mt19937 random(5);
    route_calibration known(layers, ranks);
    CHECK(known.probability(route_source::early, 1, 0) == 0.5);
    const auto rate = [](std::int32_t layer, std::int32_t rank) { return 0.95 - 0.2 * rank - 0.05 * layer; };
    for (int row = 0; row < rows; ++row)
        for (std::int32_t layer = 0; layer < layers; ++layer) {
            auto seen = observation(static_cast<std::uint16_t>(layer), {0, 1, 2, 3});
            predict(seen, route_source::control, {0, 1, 2, 3});
            seen.mark(route_source::early);
            for (std::int32_t rank = 0; rank < ranks; ++rank) {
                const bool right = static_cast<double>(random() % 10'000) < 10'000 * rate(layer, rank);
                seen.predicted[0][static_cast<std::size_t>(rank)] =
                    static_cast<std::uint16_t>(right ? rank : 100 + rank);
            }
            known.observe(seen);
        }
    for (std::int32_t layer = 0; layer < layers; ++layer)
        for (std::int32_t rank = 0; rank < ranks; ++rank) {
            CHECK(known.probability(route_source::early, layer, rank) ==
                  doctest::Approx(rate(layer, rank)).epsilon(0.08));
            CHECK(known.probability(route_source::control, layer, rank) > 0.999);
        }
    CHECK(known.quality(route_source::control).recall_at(ranks) == 1.0);
    CHECK(known.quality(route_source::early).rows == rows * layers);
}

TEST_CASE("a source that turns bad is believed less within a few thousand rows") {
    route_calibration known(1, 1);
    auto right = observation(0, {4});
    predict(right, route_source::early, {4});
    auto wrong = observation(0, {4});
    predict(wrong, route_source::early, {5});
    for (int row = 0; row < 100'000; ++row)
        known.observe(right);
    CHECK(known.probability(route_source::early, 0, 0) > 0.99);
    for (int row = 0; row < 4'000; ++row)
        known.observe(wrong);
    CHECK(known.probability(route_source::early, 0, 0) < 0.25);
}

TEST_CASE("what pruning left out counts neither as chosen nor as rightly predicted") {
    route_calibration known(1, 4);
    auto seen = observation(0, {7, 3, 5, 6});
    seen.left_out = 2;
    predict(seen, route_source::early, {3, 8, 9, 5});
    predict(seen, route_source::control, {7, 3, 5, 6});
    known.observe(seen);
    const auto& early = known.quality(route_source::early);
    CHECK(early.recall_at(4) == doctest::Approx(0.5));
    CHECK(early.precision_at(4) == doctest::Approx(1.0 / 4));
    CHECK(known.quality(route_source::control).recall_at(4) == 1.0);
    CHECK(known.quality(route_source::control).precision_at(2) == 1.0);
    CHECK(known.probability(route_source::control, 0, 3) < 0.5);
}
