#pragma once

#include "tools/moira/op_bench.hpp"

#include <nlohmann/json.hpp>
#include <string>

namespace moira {

/// The object `ops` of a row of the result: its decode step, and the prefill step and bounds that all rows share.
nlohmann::ordered_json op_bench_json(const op_bench& found, const bench_row& row);

/// Tables for people: one of the steps, then one of the ops of each.
std::string op_bench_text(const op_bench& found, bool colour);

/// Parts of both: one step with its ops, smallest, middle and largest value, and what the machine gave.
nlohmann::ordered_json step_timing_json(const step_timing& step);
nlohmann::ordered_json spread_json(const std::vector<double>& values);
nlohmann::ordered_json peaks_json(const std::vector<flop_peaks>& all);
std::string op_table(const step_timing& step, bool colour);
std::string bounds_text(const std::vector<double>& probe_gb_s, const std::vector<flop_peaks>& all);

} // namespace moira
