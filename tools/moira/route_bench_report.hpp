#pragma once

#include "tools/moira/bench_report.hpp"
#include "tools/moira/route_bench.hpp"

namespace moira {

/// One element of the array that --json prints.
nlohmann::ordered_json route_bench_json(const bench_setting& setting, const route_bench_row& row);

/// In one sentence.
std::string route_bench_verdict(const route_bench_row& row);

/// The table for people.
std::string route_bench_table(const bench_setting& setting, const std::vector<route_bench_row>& rows, bool colour);

} // namespace moira
