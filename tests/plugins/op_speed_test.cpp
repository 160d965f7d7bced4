// moira_op_bench: what it times and what its figures mean, at sizes that take milliseconds.
#include "plugins/conformance/op_speed.hpp"
#include "plugins/conformance/plugin_under_test.hpp"

#include <cstdlib>
#include <doctest/doctest.h>
#include <map>
#include <string>
#include <sys/wait.h>

using namespace moira;

namespace {

op_speed_options small() {
    op_speed_options options;
    options.hidden = 128;
    options.inner = 64;
    options.experts = 8;
    options.top_k = 2;
    options.gemm_n = 64;
    options.gemm_weights = 2;
    options.batches = {1, 4};
    options.seconds = 0.001;
    return options;
}

} // namespace

TEST_CASE("every op is timed in both types and at every size, with the bytes and operations that it must have") {
    const auto plugin = open_plugin_under_test({MOIRA_BUILD_PLUGINS}, "cpu_reference", "cpu", 1);
    REQUIRE(plugin);
    const auto rows = measure_op_speeds((*plugin)->provider(), small());
    if (!rows)
        FAIL(rows.error().message);
    std::map<std::string, int> seen;
    for (const op_speed_row& row : *rows) {
        CHECK(row.us > 0);
        ++seen[row.op + " " + row.type];
        const double element = row.type == "bf16" ? 2 : 1;
        if (row.op == "gemm") {
            CHECK(row.flops == 2.0 * row.batch * 64 * 128);
            CHECK(row.bytes >= 64 * 128 * element);
        } else if (row.op == "expert_ffn") {
            CHECK(row.flops == 2.0 * 3 * row.batch * 2 * 64 * 128);
            const double expert = 3 * 64 * 128 * element;
            CHECK(row.bytes >= 2 * expert); // two different ones per token
            CHECK(row.bytes <= 8 * expert * 1.5);
        }
    }
    const std::map<std::string, int> all = {{"expert_ffn bf16", 2},    {"gemm bf16", 2},    {"copy bf16", 1},
                                            {"expert_ffn f8_e4m3", 2}, {"gemm f8_e4m3", 2}, {"copy f8_e4m3", 1}};
    CHECK(seen == all);
}

TEST_CASE("an op that the plugin does not have is an error with its words") {
    const auto plugin = open_plugin_under_test({MOIRA_BUILD_PLUGINS}, "cpu_reference", "cpu", 1);
    REQUIRE(plugin);
    op_speed_options wrong = small();
    wrong.gemm_n = 0;
    const auto rows = measure_op_speeds((*plugin)->provider(), wrong);
    REQUIRE_FALSE(rows);
    CHECK(rows.error().code == errc::device_error);
}

TEST_CASE("the program tells done, misused and not there apart") {
    const auto exit_code = [](const std::string& arguments) {
        const std::string command =
            "'" MOIRA_OP_BENCH "' --plugins-dir '" MOIRA_BUILD_PLUGINS "' " + arguments + " >/dev/null 2>&1";
        return WEXITSTATUS(std::system(command.c_str()));
    };
    const std::string tiny = " --hidden 128 --inner 64 --experts 4 --top-k 2 --columns 64 --matrices 2 --seconds 0.001";
    CHECK(exit_code("--plugin cpu_reference --batch 1" + tiny) == 0);
    CHECK(exit_code("--plugin nobody") == 2);
    CHECK(exit_code("--plugin cpu_reference --batch 0") == 2);
    CHECK(exit_code("--plugin cpu_reference --top-k 9 --experts 8") == 2);
    CHECK(exit_code("--plugin") == 2);
}
