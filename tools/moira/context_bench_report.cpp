#include "tools/moira/context_bench.hpp"
#include "tools/moira/op_bench_report.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace moira {

namespace {

/// Null where the step had none.
const op_timing* attention_of(const context_row& row) {
    const auto found = std::find_if(row.step.ops.begin(), row.step.ops.end(),
                                    [](const op_timing& op) { return op.op.starts_with("attention"); });
    return found == row.step.ops.end() ? nullptr : &*found;
}

std::string number(double value, int digits) {
    std::array<char, 48> text{};
    std::snprintf(text.data(), text.size(), "%.*f", digits, value);
    return text.data();
}

std::string percent(double share) {
    return number(100 * share, 0) + " %";
}

} // namespace

nlohmann::ordered_json context_bench_json(const std::string& model, std::uint32_t threads, const context_bench& found) {
    auto array = nlohmann::ordered_json::array();
    for (const auto& row : found.rows) {
        nlohmann::ordered_json json{{"model", model},
                                    {"threads", threads},
                                    {"context", row.context},
                                    {"kv_type", found.kv_type},
                                    {"kv_bytes_of_context", row.cached_bytes},
                                    {"kv_bytes", found.kv_bytes},
                                    {"decode", step_timing_json(row.step)}};
        json["probe_gb_s"] = spread_json(found.probe_gb_s);
        json["peak_gflop_s"] = peaks_json(found.peaks);
        array.push_back(std::move(json));
    }
    return array;
}

std::string context_bench_text(const context_bench& found, bool colour) {
    text_table table({"CONTEXT", "MIB IN USE", "STEP US", "ATTENTION US", "US/1024 TOKENS", "GB/S", "OF PROBE",
                      "GFLOP/S", "OF PEAK"});
    for (const auto& row : found.rows) {
        const auto* attention = attention_of(row);
        const auto empty = op_timing{};
        const auto& op = attention ? *attention : empty;
        table.add({std::to_string(row.context), number(static_cast<double>(row.cached_bytes) / (1 << 20), 1),
                   number(row.step.step_us, 0), number(op.us_per_step, 0),
                   number(op.us_per_step * 1024 / row.context, 1), number(op.gb_s, 1), percent(op.bandwidth_share),
                   number(op.gflop_s, 1), percent(op.flop_share)});
    }
    std::string text = "decoding one row behind a context, keys and values in " + found.kv_type + ", " +
                       std::to_string(found.kv_bytes >> 20) +
                       " MiB of cache: " + bounds_text(found.probe_gb_s, found.peaks) + "\n" + table.print(colour);
    for (const auto& row : found.rows)
        text += "\ncontext " + std::to_string(row.context) + ":\n" + op_table(row.step, colour);
    return text;
}

} // namespace moira
