#include "core/route/gate_mass.hpp"

#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#include <vector>

using namespace moira;

namespace {

struct pruned_row {
    std::vector<std::int32_t> ids;
    std::vector<float> weights;
    std::size_t left_out = 0;
};

/// One row with the ids 0, 1, 2, ...
pruned_row pruned(double mass, bool renormalize, std::vector<float> weights) {
    pruned_row row;
    for (std::size_t rank = 0; rank < weights.size(); ++rank)
        row.ids.push_back(static_cast<std::int32_t>(rank));
    row.weights = std::move(weights);
    row.left_out = keep_gate_mass({row.ids.size(), mass, renormalize}, row.ids, row.weights);
    return row;
}

using ids = std::vector<std::int32_t>;
using weights = std::vector<float>;

} // namespace

TEST_CASE("the fewest experts stay that carry the mass, and their weights are left alone") {
    const auto row = pruned(0.75, false, {0.5F, 0.25F, 0.125F, 0.125F});
    CHECK(row.left_out == 2);
    CHECK(row.ids == ids{0, 1, no_expert, no_expert});
    CHECK(row.weights == weights{0.5F, 0.25F, 0, 0});
    CHECK(pruned(0.76, false, {0.5F, 0.25F, 0.125F, 0.125F}).left_out == 1);
    CHECK(pruned(0.5, false, {0.5F, 0.25F, 0.125F, 0.125F}).left_out == 3);
}

TEST_CASE("where the architecture normalises, the kept weights sum to what all of them did") {
    // Scaled as DeepSeek does: the sum is 2.5 and stays 2.5.
    const auto row = pruned(0.8, true, {1.25F, 0.75F, 0.25F, 0.25F});
    CHECK(row.left_out == 2);
    CHECK(row.weights[0] == doctest::Approx(1.25 * 2.5 / 2.0));
    CHECK(row.weights[1] == doctest::Approx(0.75 * 2.5 / 2.0));
    CHECK(row.weights[0] + row.weights[1] == doctest::Approx(2.5));
    // The mass is a share of the row's own sum, whatever that is.
    CHECK(pruned(0.8, false, {1.25F, 0.75F, 0.25F, 0.25F}).left_out == 2);
    CHECK(pruned(0.8, false, {0.15625F, 0.09375F, 0.03125F, 0.03125F}).left_out == 2);
}

TEST_CASE("a bias may put the heaviest expert behind: weight decides, and ranks keep their places") {
    const auto row = pruned(0.6, false, {0.125F, 0.5F, 0.25F, 0.125F});
    CHECK(row.ids == ids{no_expert, 1, 2, no_expert});
    CHECK(row.weights == weights{0, 0.5F, 0.25F, 0});
}

TEST_CASE("of equal weights the better rank stays") {
    CHECK(pruned(0.5, false, {0.25F, 0.25F, 0.25F, 0.25F}).ids == ids{0, 1, no_expert, no_expert});
    CHECK(pruned(0.01, false, {0.25F, 0.25F, 0.25F, 0.25F}).ids == ids{0, no_expert, no_expert, no_expert});
}

TEST_CASE("one expert always stays, and a single one is never touched") {
    CHECK(pruned(0.01, true, {0.25F}).ids == ids{0});
    CHECK(pruned(0.01, true, {0.25F}).weights == weights{0.25F});
    const auto zeros = pruned(0.9, true, {0, 0, 0});
    CHECK(zeros.ids == ids{0, no_expert, no_expert});
    CHECK(zeros.weights == weights{0, 0, 0});
}

TEST_CASE("the whole mass leaves out only experts without weight") {
    CHECK(pruned(1.0, true, {0.3F, 0.3F, 0.2F, 0.2F}).left_out == 0);
    const auto row = pruned(1.0, true, {0.7F, 0.3F, 0.0F});
    CHECK(row.ids == ids{0, 1, no_expert});
    CHECK(row.weights == weights{0.7F, 0.3F, 0});
}

TEST_CASE("a row whose weights are no weights stays as it is") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float wrong : {nan, infinity, -infinity, -0.25F}) {
        const auto row = pruned(0.5, true, {0.5F, wrong, 0.25F});
        CHECK(row.left_out == 0);
        CHECK(row.ids == ids{0, 1, 2});
        CHECK(row.weights[0] == 0.5F);
        CHECK(row.weights[2] == 0.25F);
    }
}

TEST_CASE("what a row becomes depends on this row alone") {
    std::mt19937 random(5);
    constexpr std::size_t top_k = 6, rows = 200;
    std::vector<std::int32_t> all_ids;
    std::vector<float> all_weights;
    for (std::size_t i = 0; i < rows * top_k; ++i) {
        all_ids.push_back(static_cast<std::int32_t>(random() % 1000));
        all_weights.push_back(static_cast<float>(random() % 1000) / 1000.0F);
    }
    auto together_ids = all_ids;
    auto together_weights = all_weights;
    std::size_t left_out = keep_gate_mass({top_k, 0.8, true}, together_ids, together_weights);
    CHECK(left_out > rows / 2);
    for (std::size_t row = 0; row < rows; ++row) {
        const std::span one_ids = std::span(all_ids).subspan(row * top_k, top_k);
        const std::span one_weights = std::span(all_weights).subspan(row * top_k, top_k);
        left_out -= keep_gate_mass({top_k, 0.8, true}, one_ids, one_weights);
    }
    CHECK(left_out == 0);
    CHECK(together_ids == all_ids);
    CHECK(together_weights == all_weights);
}
