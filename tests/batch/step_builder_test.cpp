#include "core/batch/step_builder.hpp"

#include <doctest/doctest.h>
#include <vector>

using namespace moira;

namespace {

sequence make_sequence(std::uint64_t id, std::vector<token_id> prompt, std::vector<page_id> pages,
                       std::int64_t computed, double penalty = 1.0) {
    generation_request request;
    request.id = {id};
    request.prompt = std::move(prompt);
    request.tokens_max = 5;
    request.sampling.repetition_penalty = penalty;
    sequence made(std::move(request), 100, {});
    made.pages.pages = std::move(pages);
    made.start(computed, {});
    return made;
}

} // namespace

TEST_CASE("chunks are laid out one after another with their own page tables") {
    const auto decoding = make_sequence(1, {10, 11, 12, 13, 14}, {{7}, {3}, {9}}, 4);
    const auto prompt = make_sequence(2, {20, 21, 22, 23}, {{5}, {0}}, 1, 1.5);
    const std::vector<step_chunk> chunks{{&decoding, 1}, {&prompt, 2}};
    const step_plan plan = build_step(42, chunks, 2);
    CHECK(plan.number == 42);
    CHECK(plan.sequences == 2);
    CHECK(plan.tokens == std::vector<token_id>{14, 21, 22});
    CHECK(plan.positions == std::vector<std::int32_t>{4, 1, 2});
    CHECK(plan.slots == std::vector<std::int32_t>{18, 11, 0});
    CHECK(plan.page_table == std::vector<std::int32_t>{7, 3, 9, 5, 0});
    REQUIRE(plan.attention_rows.size() == 3);
    CHECK(plan.attention_rows[0].page_table_offset == 0);
    CHECK(plan.attention_rows[1].page_table_offset == 3);
    CHECK(plan.attention_rows[2].page_table_offset == 3);
    CHECK(plan.attention_rows[2].context_length == 3);
    CHECK(plan.attention_rows[2].parent == -1);
    REQUIRE(plan.samples.size() == 1);
    CHECK(plan.samples[0].request == request_id{1});
    CHECK(plan.samples[0].row == 0);
    CHECK(plan.samples[0].position == 5);
    CHECK(plan.samples[0].history.empty());
}

TEST_CASE("a chunk that reaches the last token samples, with history when a penalty wants it") {
    const auto prompt = make_sequence(2, {20, 21, 22, 23}, {{5}, {0}}, 1, 1.5);
    const std::vector<step_chunk> chunks{{&prompt, 3}};
    const step_plan plan = build_step(1, chunks, 2);
    REQUIRE(plan.samples.size() == 1);
    CHECK(plan.samples[0].row == 2);
    CHECK(plan.samples[0].position == 4);
    CHECK(plan.samples[0].history == std::vector<token_id>{20, 21, 22, 23});
}
