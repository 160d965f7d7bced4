#include "tools/moira/load_report.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("a load report holds the promised fields") {
    load_outcome outcome;
    outcome.completed = 3;
    outcome.failed = 1;
    outcome.cancelled = 2;
    outcome.tokens = 30;
    outcome.elapsed_s = 2;
    outcome.ttft_ms = {3, 1, 2};
    outcome.latency_ms = {10, 20, 30};
    outcome.failures["queue_full"] = 1;
    load_setting setting{"tcp://x:1", "demo", 2, 6, true, 0};
    const auto json = load_report_json(setting, outcome);
    CHECK(json["completed"] == 3);
    CHECK(json["failed"] == 1);
    CHECK(json["cancelled"] == 2);
    CHECK(json["ttft_ms"]["p50"] == 2);
    CHECK(json["ttft_ms"]["p99"] == 3);
    CHECK(json["itl_ms"]["p50"].is_null());
    CHECK(json["tok_s"] == 15);
    CHECK(json["failures"]["queue_full"] == 1);
    const auto text = load_report_text(setting, outcome, false);
    CHECK(text.find("3 completed, 1 failed, 2 cancelled") != std::string::npos);
    CHECK(text.find("queue_full") != std::string::npos);
    CHECK(text.find("\033") == std::string::npos);
    CHECK(json["verdict"].is_null());
    CHECK(text.find("verdict") == std::string::npos);
    setting.verdict = "all experts fit in memory";
    CHECK(load_report_json(setting, outcome)["verdict"] == setting.verdict);
    CHECK(load_report_text(setting, outcome, false).find("verdict: all experts fit in memory\n") != std::string::npos);
}
