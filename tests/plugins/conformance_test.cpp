#include "plugins/conformance/conformance.hpp"
#include "plugins/conformance/tolerance.hpp"
#include "plugins/moira_plugin.h"

#include <algorithm>
#include <cstdlib>
#include <doctest/doctest.h>
#include <set>
#include <sstream>
#include <string>
#include <sys/wait.h>

using namespace moira;

namespace {

conformance_options check(const std::string& plugin) {
    return {{MOIRA_BUILD_PLUGINS, MOIRA_TEST_PLUGINS, MOIRA_TEST_PLUGINS "/wrong"}, plugin, {}, row_sweep::none};
}

/// Ops with at least one failure of this kind.
std::set<std::string> failed_ops(const conformance_report& report, const std::string& kind) {
    std::set<std::string> ops;
    for (const check_result& each : report.results) {
        if (each.outcome == check_outcome::failed && each.check == kind)
            ops.insert(each.subject.substr(0, each.subject.find(' ')));
    }
    return ops;
}

const conformance_report& wrong_report() {
    static const conformance_report report = [] {
        auto made = run_conformance(check("wrong_plugin"));
        REQUIRE(made);
        return *made;
    }();
    return report;
}

} // namespace

TEST_CASE("every plugin that this processor can run keeps the promises of the interface") {
    for (const char* plugin : {MOIRA_CONFORMING_PLUGINS}) {
        const auto report = run_conformance(check(plugin));
        if (!report)
            FAIL(plugin, ": ", report.error().message);
        if (!report->unusable.empty()) {
            MESSAGE("skipped: ", plugin, " cannot run here: ", report->unusable);
            continue;
        }
        std::ostringstream text;
        print_report(text, *report, false);
        CHECK_MESSAGE(report->count(check_outcome::failed) == 0, text.str());
        CHECK(report->count(check_outcome::passed) > 700);
        // Keys and values in BF16 and a library's gemm are offers; everything else is asked of every plugin.
        for (const auto& check : report->results) {
            const bool offered = check.subject.find("kv bf16") != std::string::npos ||
                                 check.subject.find("library") != std::string::npos;
            CHECK_MESSAGE((check.outcome != check_outcome::skipped || offered), plugin, " lacks ", check.subject);
        }
    }
}

TEST_CASE("a result outside the tolerance is found") {
    CHECK(failed_ops(wrong_report(), "reference").count("rmsnorm") == 1);
}

TEST_CASE("a result that depends on the number of rows is found, be it one bit") {
    CHECK(failed_ops(wrong_report(), "rows").count("gemm") == 1);
    CHECK(failed_ops(wrong_report(), "reference").count("gemm") == 0);
}

TEST_CASE("a result that depends on the team is found, be it one bit") {
    CHECK(failed_ops(wrong_report(), "team").count("expert_ffn") == 1);
    CHECK(failed_ops(wrong_report(), "rows").count("expert_ffn") == 0);
}

TEST_CASE("reading a slot outside the context is found") {
    CHECK(failed_ops(wrong_report(), "reference").count("attention_gqa") == 1);
}

TEST_CASE("a tie that goes to the higher id is found") {
    CHECK(failed_ops(wrong_report(), "reference").count("router_topk") == 1);
}

TEST_CASE("writing behind a buffer is found") {
    CHECK(failed_ops(wrong_report(), "reference").count("combine") == 1);
}

TEST_CASE("ops without a mistake pass beside those with one") {
    for (const char* kind : {"reference", "rows", "team", "errors", "prepare", "special values"}) {
        for (const char* op : {"embedding", "rope", "kv_append", "attention_mla"})
            CHECK(failed_ops(wrong_report(), kind).count(op) == 0);
    }
}

TEST_CASE("the report names failures and ends with the sum") {
    std::ostringstream text;
    print_report(text, wrong_report(), false);
    CHECK(text.str().find("FAILED  rmsnorm") != std::string::npos);
    CHECK(text.str().find("wrong_plugin: ") != std::string::npos);
    CHECK(text.str().find("passed  ") == std::string::npos);
}

TEST_CASE("a plugin that is not there is not_found") {
    const auto report = run_conformance(check("nobody"));
    REQUIRE_FALSE(report);
    CHECK(report.error().code == errc::not_found);
}

TEST_CASE("every op has a tolerance with its derivation, wider for narrow weights") {
    for (std::uint32_t op = 0; op < MOIRA_OP_COUNT; ++op) {
        const tolerance& exact = tolerance_for(op, false);
        CHECK(exact.op == op);
        CHECK(exact.distance_max < 1e-4);
        CHECK(std::string(exact.derivation).size() > 5);
        CHECK(tolerance_for(op, true).distance_max >= exact.distance_max);
        CHECK(tolerance_for(op, true).distance_max < 0.1);
    }
}

TEST_CASE("the command's exit code tells passed, failed and misused apart") {
    const auto exit_code = [](const std::string& arguments) {
        const std::string command = "'" MOIRA_CONFORMANCE_CHECK "' --plugins-dir '" MOIRA_BUILD_PLUGINS
                                    "' --plugins-dir '" MOIRA_TEST_PLUGINS "/wrong' " +
                                    arguments + " >/dev/null 2>&1";
        return WEXITSTATUS(std::system(command.c_str()));
    };
    CHECK(exit_code("--plugin cpu_reference --filter rmsnorm") == 0);
    CHECK(exit_code("--plugin wrong_plugin --filter rmsnorm") == 3);
    CHECK(exit_code("--plugin nobody") == 2);
    CHECK(exit_code("--plugin") == 2);
    CHECK(exit_code("--no-such-option x --plugin cpu_reference") == 2);
    CHECK(exit_code("--plugin cpu_reference --rows-sweep quick --filter rope") == 0);
    CHECK(exit_code("--plugin wrong_plugin --rows-sweep quick --filter gemm") == 3);
    CHECK(exit_code("--plugin cpu_reference --rows-sweep some") == 2);
}
