#include "core/base/read_only_file.hpp"
#include "tools/moira/workload_trace.hpp"

#include <doctest/doctest.h>

using namespace moira;
using namespace std::chrono_literals;

TEST_CASE("a published trace is read, in order from its first arrival") {
    const auto text = read_text_file(MOIRA_TEST_DATA "/workload/azure-2023-conv-40.csv", workload_bytes_max);
    REQUIRE(text);
    const auto rows = parse_workload(*text);
    REQUIRE(rows);
    REQUIRE(rows->size() == 40);
    CHECK(rows->front().arrival == 0us);
    CHECK(rows->front().prompt_tokens == 374);
    CHECK(rows->front().answer_tokens == 44);
    CHECK((*rows)[1].arrival == 4'314'579us); // 18:15:50.9951690 - 18:15:46.6805900
    for (std::size_t i = 1; i < rows->size(); ++i)
        CHECK((*rows)[i].arrival >= (*rows)[i - 1].arrival);
}

TEST_CASE("columns may stand in any order, rows too, and times may be seconds") {
    const auto rows = parse_workload("GeneratedTokens,x,TIMESTAMP,ContextTokens\n5,,2.5,7\n\n6,,1,0\r\n");
    REQUIRE(rows);
    REQUIRE(rows->size() == 2);
    CHECK(rows->front().answer_tokens == 6);
    CHECK(rows->front().prompt_tokens == 1); // at least one token is sent
    CHECK(rows->back().arrival == 1'500'000us);
    const auto midnight = parse_workload(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-12-31T23:59:59.5+00:00,1,1\n2024-01-01 00:00:00,1,1");
    REQUIRE(midnight);
    CHECK(midnight->back().arrival == 500'000us);
}

TEST_CASE("what is no trace is refused with its line") {
    const std::string head = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
    for (const auto& wrong :
         {std::string(), std::string("a,b,c\n1,2,3\n"), head, head + "1,2\n", head + "x,1,1\n", head + "1,-1,1\n",
          head + "1,1,99999999999\n", head + "2023-13-01 00:00:00,1,1\n", head + "2023-01-01 25:00:00,1,1\n",
          head + "nan,1,1\n", head + "1e300,1,1\n", head + "2023-0x-01 00:00:00,1,1\n"}) {
        CAPTURE(wrong);
        const auto rows = parse_workload(wrong);
        REQUIRE_FALSE(rows);
        CHECK(rows.error().code == errc::corrupt_file);
    }
}

TEST_CASE("lengths are cut to the context, and arrivals come closer") {
    std::vector<workload_row> rows{{0us, 1'000, 100}, {1'000'000us, 10, 400}, {2'000'000us, 10, 10}};
    CHECK(fit_workload(rows, {4, 512, 0}) == 2);
    CHECK(rows[0].prompt_tokens == 412);
    CHECK(rows[0].answer_tokens == 100);
    CHECK(rows[1].answer_tokens == 256);
    CHECK(rows[1].arrival == 250'000us);
    CHECK(rows[2].prompt_tokens == 10);
    CHECK(fit_workload(rows, {1, 0, 5}) == 3);
    CHECK(rows[2].answer_tokens == 5);
    CHECK(rows[2].prompt_tokens == 10);
}
