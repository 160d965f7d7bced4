#pragma once

#include "tools/moira/bench_run.hpp"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moira {

/// What all rows of a call share.
struct bench_setting {
    std::string model;
    std::uint32_t threads = 0;
    std::uint64_t probe_bytes = 0;
};

/// One element of the array that --json prints.
/// What the row waited for, in a sentence.
std::string bench_row_verdict(const bench_row& row);

nlohmann::ordered_json bench_row_json(const bench_setting& setting, const bench_row& row);

/// The table for people.
std::string bench_table(const bench_setting& setting, const std::vector<bench_row>& rows, bool colour);

} // namespace moira
