#include "core/route/scripted_predictor.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <set>

using namespace moira;

namespace {

route_trace walk(std::uint32_t tokens) {
    route_trace trace{.layers = 3, .experts = 40, .top_k = 4, .layer_numbers = {0, 1, 2}};
    route_sequence sequence{.tokens = tokens};
    for (std::uint32_t visit = 0; visit < tokens * 3; ++visit)
        for (std::uint32_t rank = 0; rank < 4; ++rank) {
            sequence.ids.push_back(static_cast<std::uint16_t>((visit * 7 + rank * 11) % 40));
            sequence.weights.push_back(0.25F);
        }
    trace.sequences.push_back(sequence);
    return trace;
}

std::vector<std::int32_t> ids_of(const std::vector<predicted_expert>& predicted) {
    std::vector<std::int32_t> ids;
    for (const auto& one : predicted)
        ids.push_back(one.expert);
    return ids;
}

} // namespace

TEST_CASE("the oracle names what is chosen and nothing else") {
    const auto trace = walk(20);
    auto oracle = make_trace_predictor("oracle", trace);
    REQUIRE(oracle);
    CHECK((*oracle)->name() == "oracle");
    for (std::uint32_t token = 0; token < 20; ++token)
        for (std::uint32_t layer = 0; layer < 3; ++layer) {
            std::vector<predicted_expert> predicted;
            (*oracle)->predict({0, token}, layer, predicted);
            auto ids = ids_of(predicted);
            const auto chosen = trace.ids(trace.sequences[0], token, layer);
            CHECK(std::is_permutation(ids.begin(), ids.end(), chosen.begin(), chosen.end()));
            CHECK(predicted.front().probability == 1.0F);
        }
}

TEST_CASE("a script holds its recall and precision, names nobody twice and does not depend on the order of questions") {
    const auto trace = walk(4000);
    auto script = make_trace_predictor("scripted:recall=0.85,precision=0.7,seed=5", trace);
    auto again = make_trace_predictor("scripted:recall=0.85,precision=0.7,seed=5", trace);
    auto other = make_trace_predictor("scripted:recall=0.85,precision=0.7,seed=6", trace);
    REQUIRE(script);
    REQUIRE(again);
    REQUIRE(other);
    std::size_t chosen = 0, named = 0, right = 0, differing = 0;
    for (std::uint32_t token = 0; token < 4000; ++token)
        for (std::uint32_t layer = 0; layer < 3; ++layer) {
            std::vector<predicted_expert> predicted, seeded;
            (*script)->predict({0, token}, layer, predicted);
            (*other)->predict({0, token}, layer, seeded);
            const auto ids = ids_of(predicted);
            REQUIRE(std::set(ids.begin(), ids.end()).size() == ids.size());
            const auto truth = trace.ids(trace.sequences[0], token, layer);
            chosen += truth.size();
            named += ids.size();
            for (const auto id : ids)
                right += static_cast<std::size_t>(std::count(truth.begin(), truth.end(), id));
            differing += ids != ids_of(seeded);
        }
    CHECK(static_cast<double>(right) / static_cast<double>(chosen) == doctest::Approx(0.85).epsilon(0.01));
    CHECK(static_cast<double>(right) / static_cast<double>(named) == doctest::Approx(0.7).epsilon(0.01));
    CHECK(differing > 6000);
    for (const std::uint32_t token : {3999U, 17U, 0U}) {
        std::vector<predicted_expert> first, second;
        (*script)->predict({0, token}, 1, first);
        (*again)->predict({0, token}, 1, second);
        CHECK(ids_of(first) == ids_of(second));
    }
}

TEST_CASE("unknown predictors and options that make no sense are refused") {
    const auto trace = walk(1);
    for (const char* text : {"crystal_ball", "oracle:recall=1", "scripted:recall", "scripted:recall=1.5",
                             "scripted:precision=0", "scripted:seed=x", "scripted:recall=nan", "scripted:hue=1", ""}) {
        const auto made = make_trace_predictor(text, trace);
        REQUIRE_FALSE(made);
        CHECK(made.error().code == errc::invalid_argument);
    }
}

TEST_CASE("rows of a step together: what several rows name is likelier, and each expert is named once") {
    prediction_union together(8);
    CHECK(together.take().empty());
    together.add(std::vector<predicted_expert>{{3, 0.5F}, {1, 0.5F}});
    together.add(std::vector<predicted_expert>{{1, 0.5F}, {6, 1.0F}});
    const auto named = together.take();
    REQUIRE(named.size() == 3);
    CHECK(named[0].expert == 6);
    CHECK(named[1].expert == 1);
    CHECK(named[1].probability == doctest::Approx(0.75));
    CHECK(named[2].expert == 3);
    together.add(std::vector<predicted_expert>{{6, 0.25F}});
    REQUIRE(together.take().size() == 1);
}
