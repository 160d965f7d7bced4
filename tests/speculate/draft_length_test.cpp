#include "core/speculate/draft_length.hpp"

#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <numeric>
#include <random>

using namespace moira;

namespace {

/// Measured: a step costs `fixed` and `per_row` for every row.
draft_control measured(double fixed, double per_row) {
    draft_control control;
    for (int i = 0; i < 200; ++i)
        control.note_step(1 + i % 6, fixed + per_row * (1 + i % 6));
    return control;
}

double tokens_per_cost(const std::vector<draft_candidate>& all, const std::vector<std::size_t>& lengths, double fixed,
                       double per_row) {
    double tokens = 0, rows = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        rows += 1 + static_cast<double>(lengths[i]);
        for (std::size_t length = 0; length <= lengths[i]; ++length)
            tokens += std::pow(all[i].probability, static_cast<double>(length));
    }
    return tokens / (fixed + per_row * rows);
}

} // namespace

TEST_CASE("a draft is as long as it pays, and nothing where it never pays") {
    const std::vector<draft_candidate> one{{4, 0.5}};
    CHECK(measured(1, 0).choose(one, 1, 1, 100) == std::vector<std::size_t>{4});    // rows are free
    CHECK(measured(1, 1).choose(one, 1, 1, 100) == std::vector<std::size_t>{0});    // a row costs half a step
    CHECK(measured(1, 0.15).choose(one, 1, 1, 100) == std::vector<std::size_t>{2}); // 0.5, 0.25, then 0.125
    CHECK(measured(1, 0).choose(one, 1, 1, 3) == std::vector<std::size_t>{3});
    CHECK(measured(1, 0).choose(one, 1, 1, 0) == std::vector<std::size_t>{0});
    CHECK(draft_control{}.choose(one, 1, 1, 100) == std::vector<std::size_t>{4}); // nothing measured: try
    CHECK(draft_control{}.choose({}, 1, 1, 100).empty());
}

TEST_CASE("no other lengths give more tokens per cost, and bounds hold") {
    std::mt19937 random(5);
    for (int round = 0; round < 300; ++round) {
        const double fixed = 1, per_row = 0.02 + static_cast<double>(random() % 30) / 50;
        auto control = measured(fixed, per_row);
        std::vector<draft_candidate> all(1 + random() % 3);
        for (auto& each : all)
            each = {random() % 5, static_cast<double>(random() % 100) / 100};
        const auto rows = static_cast<std::int32_t>(all.size());
        const auto free = static_cast<std::int32_t>(random() % 9);
        const auto chosen = control.choose(all, rows, rows, free);
        REQUIRE(chosen.size() == all.size());
        REQUIRE(std::accumulate(chosen.begin(), chosen.end(), std::size_t{0}) <= static_cast<std::size_t>(free));
        const double ours = tokens_per_cost(all, chosen, fixed, per_row);
        std::vector<std::size_t> other(all.size(), 0);
        for (int tries = 0; tries < 125; ++tries) {
            int rest = tries;
            std::size_t sum = 0;
            for (std::size_t i = 0; i < all.size(); ++i, rest /= 5) {
                other[i] = std::min<std::size_t>(static_cast<std::size_t>(rest % 5), all[i].length_max);
                sum += other[i];
            }
            if (sum <= static_cast<std::size_t>(free))
                REQUIRE(tokens_per_cost(all, other, fixed, per_row) <= ours + 1e-6);
        }
        for (std::size_t i = 0; i < all.size(); ++i)
            REQUIRE(chosen[i] <= all[i].length_max);
    }
}

TEST_CASE("after many steps without drafts one token looks whether anything has changed") {
    auto control = measured(1, 10);
    const std::vector<draft_candidate> all{{4, 0.2}, {4, 0.6}};
    int looked = 0;
    for (int step = 0; step < 10 * draft_control::idle_steps_max; ++step) {
        const auto chosen = control.choose(all, 2, 2, 8);
        REQUIRE(chosen[0] == 0);
        REQUIRE(chosen[1] <= 1);
        looked += static_cast<int>(chosen[1]);
    }
    CHECK(looked == 9);
    // Costs change: measured through such looks alone, drafts come back.
    int drafted = 0;
    for (int step = 0; step < 40 * draft_control::idle_steps_max; ++step) {
        const auto chosen = control.choose(all, 2, 2, 8);
        const auto more = static_cast<std::int32_t>(chosen[0] + chosen[1]);
        drafted += more;
        control.note_step(2 + more, 1.0 + 0.001 * more);
    }
    CHECK(drafted > 1'000);
}

TEST_CASE("an estimate follows what happens and stays a probability") {
    acceptance_estimate estimate;
    CHECK(estimate.probability() == doctest::Approx(0.5));
    for (int i = 0; i < 100; ++i)
        estimate.note(4, 4);
    CHECK(estimate.probability() > 0.95);
    for (int i = 0; i < 100; ++i)
        estimate.note(4, 0);
    CHECK(estimate.probability() < 0.1);
    for (int i = 0; i < 300; ++i)
        estimate.note(2, static_cast<std::size_t>(i % 3)); // of five tests three are passed
    CHECK(estimate.probability() == doctest::Approx(0.6).epsilon(0.15));
    estimate.note(1, 100);
    CHECK(estimate.probability() <= 1);
}

TEST_CASE("a token that the model drafts must be worth its row and its pass") {
    draft_control unknown;
    CHECK(unknown.chance_min(1, 1) < 0.1);
    auto control = measured(1, 0.1);
    const double without = control.chance_min(2, 2);
    CHECK(without == doctest::Approx(0.2 / 1.2).epsilon(0.01));
    for (const double nonsense : {0.0, -1.0, std::nan(""), HUGE_VAL})
        control.note_draft(nonsense);
    CHECK(control.chance_min(2, 2) == without);
    control.note_draft(0.6);
    CHECK(control.chance_min(2, 2) == doctest::Approx(0.8 / 1.2).epsilon(0.01));
    CHECK(control.chance_min(1, 1) < control.chance_min(2, 2));
    for (int i = 0; i < 1'000; ++i)
        control.note_draft(100);
    CHECK(control.chance_min(2, 2) > 1); // never
}

TEST_CASE("costs that make no sense are not measured") {
    step_cost cost;
    for (const double nonsense : {0.0, -1.0, std::nan(""), HUGE_VAL})
        cost.note(3, nonsense);
    CHECK(cost.of(3) == 0);
    for (int i = 0; i < 100; ++i)
        cost.note(1 + i % 2, 5.0 - i % 2); // more rows, less time
    CHECK(cost.per_row() == 0);
    CHECK(cost.of(1'000) > 0);
}
