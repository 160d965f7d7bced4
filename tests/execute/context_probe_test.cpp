#include "core/execute/context_probe.hpp"

#include <array>
#include <doctest/doctest.h>

using namespace moira;

namespace {

constexpr std::int32_t page_tokens = 16;

model_shape two_layers() {
    model_shape shape;
    shape.layers = 2;
    shape.layer_is_moe = {true, true};
    shape.moe.experts = 8;
    shape.moe.top_k = 1;
    return shape;
}

/// Rows of one sequence from `first` on, in pages 0, 1, ...; the last `drafted` of them are drafts.
step_plan rows_of(std::uint64_t number, std::uint64_t request, std::int32_t first, std::int32_t rows,
                  std::int32_t drafted, bool sampled = true) {
    step_plan plan;
    plan.number = number;
    plan.page_table = {0, 1};
    for (std::int32_t row = 0; row < rows; ++row) {
        const auto position = first + row;
        plan.tokens.push_back(1);
        plan.requests.push_back({request});
        plan.positions.push_back(position);
        plan.slots.push_back(position);
        plan.attention_rows.push_back({position, position + 1, 0, -1});
        if (!sampled || row < rows - 1 - drafted)
            continue;
        auto& sample = plan.samples.emplace_back();
        sample.request = {request};
        sample.row = row;
        sample.follows_draft = row > rows - 1 - drafted;
    }
    return plan;
}

} // namespace

TEST_CASE("what a draft chose predicts the token that takes its place, and no other") {
    context_probe probe(two_layers(), 8, 2, nullptr);
    std::array<std::int32_t, 6> ids{};
    const auto verify = rows_of(1, 9, 3, 3, 2);
    probe.begin_step(verify, page_tokens, true);
    CHECK_FALSE(probe.predict(route_source::drafted, 0, ids));
    probe.routed(0, std::array{2, 5, 6});
    probe.routed(1, std::array{3, 7, 1});
    // Behind row 0, if its draft is rejected; behind the last row nothing was drafted.
    std::array<std::int32_t, 2> next{};
    CHECK(probe.predict_next(route_source::drafted, 0, 0, next));
    CHECK(next == std::array{5, 2});
    CHECK_FALSE(probe.predict_next(route_source::drafted, 0, 2, next));
    CHECK(probe.predict_next(route_source::previous, 0, 2, next));
    CHECK(next[0] == 6);

    SUBCASE("the first draft was rejected") {
        const auto plan = rows_of(2, 9, 4, 1, 0);
        probe.begin_step(plan, page_tokens, true);
        REQUIRE(probe.predict(route_source::drafted, 1, ids));
        CHECK(ids[0] == 7); // the draft's
        CHECK(ids[1] == 3); // the token's before
    }
    SUBCASE("all were accepted") {
        const auto plan = rows_of(2, 9, 6, 1, 0);
        probe.begin_step(plan, page_tokens, true);
        CHECK_FALSE(probe.predict(route_source::drafted, 0, ids));
        CHECK(probe.predict(route_source::previous, 0, ids));
        CHECK(ids[0] == 6);
    }
    SUBCASE("another sequence has got the place") {
        const auto plan = rows_of(2, 10, 4, 1, 0);
        probe.begin_step(plan, page_tokens, true);
        CHECK_FALSE(probe.predict(route_source::drafted, 0, ids));
    }
    SUBCASE("a step that is not predicted lies in between") {
        const auto large = rows_of(2, 11, 16, 9, 0);
        probe.begin_step(large, page_tokens, false);
        const auto plan = rows_of(3, 9, 4, 1, 0);
        probe.begin_step(plan, page_tokens, true);
        CHECK_FALSE(probe.predict(route_source::drafted, 0, ids));
    }
}

TEST_CASE("a prompt of any size is its sequence's prior, until that ends") {
    context_probe probe(two_layers(), 8, 2, nullptr);
    std::array<std::int32_t, 2> ids{};
    const auto common = rows_of(1, 1, 0, 1, 0);
    probe.begin_step(common, page_tokens, true);
    probe.routed(0, std::array{4});
    // More rows than are predicted, then a block of rows of a step that is larger still.
    const auto prompt = rows_of(2, 2, 0, 9, 0, false);
    probe.begin_step(prompt, page_tokens, false);
    probe.routed(0, std::array{6, 6, 6, 6, 6, 6, 6, 6, 6});
    const auto block = rows_of(3, 2, 9, 2, 0, false);
    const auto larger = rows_of(3, 2, 9, 20, 0, false);
    probe.begin_step(larger, page_tokens, false);
    probe.prompt_routed(1, block, std::array{7, 7});
    auto plan = rows_of(4, 2, 11, 1, 0);
    probe.begin_step(plan, page_tokens, true);
    REQUIRE(probe.predict(route_source::prompt, 0, ids));
    CHECK(ids[0] == 6);
    REQUIRE(probe.predict(route_source::prompt, 1, ids));
    CHECK(ids[0] == 7);
    plan.number = 5;
    plan.ended = {request_id{2}};
    probe.begin_step(plan, page_tokens, true);
    REQUIRE(probe.predict(route_source::prompt, 0, ids));
    CHECK(ids[0] == 4);
    CHECK_FALSE(probe.predict(route_source::prompt, 1, ids));
}
