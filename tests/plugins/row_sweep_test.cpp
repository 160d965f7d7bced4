// The sweep over numbers of rows: every plugin passes, and what depends on the number is found.
#include "plugins/conformance/conformance.hpp"

#include <doctest/doctest.h>
#include <set>
#include <sstream>
#include <string>

using namespace moira;

namespace {

conformance_report swept(const std::string& plugin, const std::string& filter = {}) {
    auto report = run_conformance(
        {{MOIRA_BUILD_PLUGINS, MOIRA_TEST_PLUGINS, MOIRA_TEST_PLUGINS "/wrong"}, plugin, filter, row_sweep::quick});
    if (!report)
        FAIL(plugin, ": ", report.error().message);
    return *report;
}

} // namespace

TEST_CASE("rows have the same bits alone and among 1 to 33 others, in every plugin, for every op and type") {
    for (const char* plugin : {MOIRA_CONFORMING_PLUGINS}) {
        const conformance_report report = swept(plugin);
        if (!report.unusable.empty()) {
            MESSAGE("skipped: ", plugin, " cannot run here: ", report.unusable);
            continue;
        }
        std::ostringstream text;
        print_report(text, report, false);
        CHECK_MESSAGE(report.count(check_outcome::failed) == 0, text.str());
        std::set<std::string> ops;
        for (const check_result& each : report.results)
            if (each.outcome == check_outcome::passed)
                ops.insert(each.subject.substr(0, each.subject.find(' ')));
        CHECK(ops == std::set<std::string>{"attention_gqa", "attention_mla", "combine", "embedding", "expert_ffn",
                                           "gemm", "kv_append", "rmsnorm", "rope", "router_topk"});
    }
}

TEST_CASE("one unit in the last place of one row among many is found") {
    const conformance_report report = swept("wrong_plugin", "gemm");
    CHECK(report.count(check_outcome::failed) >= 8); // every type and kind of arithmetic
    CHECK(report.count(check_outcome::passed) == 0);
}

TEST_CASE("ops without a mistake pass the sweep beside those with one") {
    for (const char* op : {"embedding", "rope", "kv_append"})
        CHECK(swept("wrong_plugin", op).count(check_outcome::failed) == 0);
}
