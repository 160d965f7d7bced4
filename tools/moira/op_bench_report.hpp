#pragma once

#include "tools/moira/op_bench.hpp"

#include <nlohmann/json.hpp>
#include <string>

namespace moira {

/// The object `ops` of a row of the result: its decode step, and the prefill step and bounds that all rows share.
nlohmann::ordered_json op_bench_json(const op_bench& found, const bench_row& row);

/// Tables for people: one of the steps, then one of the ops of each.
std::string op_bench_text(const op_bench& found, bool colour);

} // namespace moira
