#pragma once

#include "actors/load_client.hpp"

#include <nlohmann/json.hpp>
#include <string>

namespace moira {

/// What a report names beside the measurements.
struct load_setting {
    std::string target, model;
    std::size_t clients = 0, requests = 0;
    bool stream = true;
    std::size_t rows_cut = 0; ///< of a workload, to fit the context
    std::string verdict = {}; ///< of the server's counters; empty: it tells none
};

/// All that came, over the whole time.
double tokens_per_second(const load_outcome& outcome);

/// The object that --json prints. A percentile without samples is null.
nlohmann::ordered_json load_report_json(const load_setting& setting, const load_outcome& outcome);

/// The same for people.
std::string load_report_text(const load_setting& setting, const load_outcome& outcome, bool colour);

} // namespace moira
