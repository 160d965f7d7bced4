#include "tools/moira/run_summary.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("the summary names what limited a run and what ended it") {
    runtime_statistics statistics;
    generation_result outcome;
    outcome.prompt_tokens = 6;
    outcome.completion_tokens = 10;
    outcome.reason = finish_reason::length;
    CHECK(limiting_part(statistics) == "nothing");
    statistics.compute_s = 2;
    statistics.stall_s = 0.5;
    CHECK(limiting_part(statistics) == "computing");
    statistics.stall_s = 1.5;
    CHECK(limiting_part(statistics) == "reading experts");

    CHECK(ending_of(outcome, 512) == "the limit of 10 tokens");
    CHECK(ending_of(outcome, 16) == "the full context");
    outcome.reason = finish_reason::cancelled;
    CHECK(ending_of(outcome, 512) == "Ctrl-C");
    outcome.reason = finish_reason::stop;
    const auto line = run_summary(statistics, outcome, 512);
    CHECK(line.find("6 + 10 tokens") == 0);
    CHECK(line.find("75 % of the time waited for experts: limited by reading experts; ended by the end of the text") !=
          std::string::npos);
    CHECK(line.find('\n') == std::string::npos);
    CHECK(line.find("lossy") == std::string::npos);

    statistics.experts.pruning.emplace();
    statistics.experts.pruning->all = {1'000, 250, 5};
    CHECK(run_summary(statistics, outcome, 512).ends_with("lossy: 25.0 % of the routings left out, 0.5 % replaced"));
}
