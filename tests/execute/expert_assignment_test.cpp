#include "core/execute/expert_assignment.hpp"
#include "core/route/gate_mass.hpp"

#include <doctest/doctest.h>

using namespace moira;

using ids = std::vector<std::int32_t>;

namespace {

result<expert_assignment> assign(const ids& chosen, std::int32_t top_k, std::int32_t experts, bool pruned = false) {
    expert_assignment made;
    made.pairs.resize(9); // of a layer before
    made.experts = {7, 8};
    made.pair_begin = {1, 2, 3};
    if (auto done = assign_pairs(chosen, top_k, experts, pruned, made); !done)
        return tl::unexpected(done.error());
    return made;
}

} // namespace

TEST_CASE("pairs are sorted by expert, and within one expert by row") {
    // rows: {2, 0}, {2, 3}, {0, 2}
    const auto made = assign(ids{2, 0, 2, 3, 0, 2}, 2, 5);
    REQUIRE(made);
    CHECK(made->experts == ids{0, 2, 3});
    CHECK(made->pair_begin == std::vector<std::uint32_t>{0, 2, 5, 6});
    ids rows, outputs;
    for (const auto& pair : made->pairs) {
        rows.push_back(pair.row);
        outputs.push_back(pair.out_row);
    }
    CHECK(rows == ids{0, 2, 0, 1, 2, 1});
    CHECK(outputs == ids{1, 4, 0, 2, 5, 3});
}

TEST_CASE("no rows make no pairs") {
    const auto made = assign({}, 4, 16);
    REQUIRE(made);
    CHECK(made->experts.empty());
    CHECK(made->pairs.empty());
    CHECK(made->pair_begin == std::vector<std::uint32_t>{0});
}

TEST_CASE("ids that a kernel made up do not index host memory") {
    for (const std::int32_t wrong : {-1, 5, 2'147'483'647, -2'147'483'647 - 1}) {
        CAPTURE(wrong);
        const auto made = assign(ids{0, 1, wrong, 2}, 2, 5);
        REQUIRE_FALSE(made);
        CHECK(made.error().code == errc::device_error);
    }
}

TEST_CASE("ids that are not whole rows are refused") {
    for (const std::int32_t top_k : {2, 0, -1}) {
        CAPTURE(top_k);
        const auto made = assign(ids{0, 1, 2}, top_k, 5);
        REQUIRE_FALSE(made);
        CHECK(made.error().code == errc::internal);
    }
}

TEST_CASE("ranks that pruning left out make no pairs, and the others keep their place in the output") {
    // rows: {2, -}, {-, 3}, {0, 2}
    const auto made = assign(ids{2, no_expert, no_expert, 3, 0, 2}, 2, 5, true);
    REQUIRE(made);
    CHECK(made->experts == ids{0, 2, 3});
    CHECK(made->pair_begin == std::vector<std::uint32_t>{0, 1, 3, 4});
    ids rows, outputs;
    for (const auto& pair : made->pairs) {
        rows.push_back(pair.row);
        outputs.push_back(pair.out_row);
    }
    CHECK(rows == ids{2, 0, 2, 1});
    CHECK(outputs == ids{4, 0, 5, 3});
    for (const std::int32_t wrong : {-2, 5}) {
        const auto refused = assign(ids{2, wrong}, 2, 5, true);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::device_error);
    }
}
