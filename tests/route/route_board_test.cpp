#include "core/route/route_board.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("what the ring holds becomes probabilities and a report") {
    route_board board(3, 2, 16);
    CHECK(board.probability(route_source::early, 1, 0) == 0.5F);
    CHECK(board.report().of(route_source::early).rows == 0);
    route_calibration known(3, 2);
    for (int row = 0; row < 12; ++row) {
        route_observation seen;
        seen.layer = 1;
        seen.top_k = 2;
        seen.chosen = {4, 5};
        seen.mark(route_source::early);
        seen.predicted[0] = {5, 6};
        board.ring().push(seen);
    }
    board.learn(known);
    CHECK(board.probability(route_source::early, 1, 0) > 0.9F);
    CHECK(board.probability(route_source::early, 1, 1) < 0.1F);
    CHECK(board.probability(route_source::early, 2, 0) == 0.5F);
    const auto report = board.report();
    CHECK(report.top_k == 2);
    CHECK(report.of(route_source::early).rows == 12);
    CHECK(report.of(route_source::early).recall_at(2) == 0.5);
    CHECK(report.dropped == 0);
}

TEST_CASE("an announcement is made once until somebody looked") {
    route_board board(1, 1, 4);
    CHECK(board.announce());
    CHECK_FALSE(board.announce());
    route_calibration known(1, 1);
    board.learn(known);
    CHECK(board.announce());
}

TEST_CASE("observations beyond the ring's room are counted as dropped") {
    route_board board(1, 1, 4);
    route_observation seen;
    seen.top_k = 1;
    seen.mark(route_source::early);
    for (int row = 0; row < 10; ++row)
        board.ring().push(seen);
    route_calibration known(1, 1);
    board.learn(known);
    CHECK(board.report().dropped == 6);
    CHECK(board.report().of(route_source::early).rows == 4);
}
