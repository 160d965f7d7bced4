#include "tools/moira/load_report.hpp"

#include "tools/moira/bench_numbers.hpp"
#include "tools/moira/text_table.hpp"

#include <array>
#include <cstdio>

namespace moira {

namespace {

nlohmann::ordered_json percentiles(const std::vector<double>& values) {
    if (values.empty())
        return {{"p50", nullptr}, {"p99", nullptr}};
    return {{"p50", value_at_share(values, 0.5)}, {"p99", value_at_share(values, 0.99)}};
}

std::string rounded(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), value < 10 ? "%.2f" : "%.1f", value);
    return text.data();
}

void add_times(text_table& table, const std::string& name, const std::vector<double>& values) {
    if (!values.empty())
        table.add({name, rounded(value_at_share(values, 0.5)), rounded(value_at_share(values, 0.99))});
}

} // namespace

double tokens_per_second(const load_outcome& outcome) {
    return outcome.elapsed_s > 0 ? static_cast<double>(outcome.tokens) / outcome.elapsed_s : 0;
}

nlohmann::ordered_json load_report_json(const load_setting& setting, const load_outcome& outcome) {
    nlohmann::ordered_json json{
        {"target", setting.target},     {"model", setting.model},         {"clients", setting.clients},
        {"requests", setting.requests}, {"stream", setting.stream},       {"completed", outcome.completed},
        {"failed", outcome.failed},     {"cancelled", outcome.cancelled}, {"not_sent", outcome.not_sent}};
    json["ttft_ms"] = percentiles(outcome.ttft_ms);
    json["itl_ms"] = percentiles(outcome.itl_ms);
    json["latency_ms"] = percentiles(outcome.latency_ms);
    json["late_ms"] = percentiles(outcome.late_ms);
    json["tok_s"] = tokens_per_second(outcome);
    json["tokens"] = outcome.tokens;
    json["elapsed_s"] = outcome.elapsed_s;
    json["rows_cut"] = setting.rows_cut;
    json["interrupted"] = outcome.interrupted;
    json["verdict"] =
        setting.verdict.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(setting.verdict);
    json["failures"] = nlohmann::ordered_json::object();
    for (const auto& [code, count] : outcome.failures)
        json["failures"][code] = count;
    return json;
}

std::string load_report_text(const load_setting& setting, const load_outcome& outcome, bool colour) {
    std::string text = setting.target + (setting.model.empty() ? "" : ", " + setting.model) + ": " +
                       std::to_string(outcome.completed) + " completed, " + std::to_string(outcome.failed) +
                       " failed, " + std::to_string(outcome.cancelled) + " cancelled";
    if (outcome.not_sent != 0)
        text += ", " + std::to_string(outcome.not_sent) + " not sent";
    text += " of " + std::to_string(setting.requests) + " by " + std::to_string(setting.clients) + " clients in " +
            rounded(outcome.elapsed_s) + " s\n" + rounded(tokens_per_second(outcome)) + " tokens/s, " +
            std::to_string(outcome.tokens) + " tokens\n";
    if (setting.rows_cut != 0)
        text += std::to_string(setting.rows_cut) + " rows of the workload were cut to the context\n";
    text_table table({"MILLISECONDS", "P50", "P99"});
    add_times(table, "first token", outcome.ttft_ms);
    add_times(table, "between tokens", outcome.itl_ms);
    add_times(table, "whole request", outcome.latency_ms);
    add_times(table, "late for want of a client", outcome.late_ms);
    if (!outcome.latency_ms.empty())
        text += table.print(colour);
    for (const auto& [code, count] : outcome.failures)
        text += "failed with " + code + ": " + std::to_string(count) + "\n";
    if (!setting.verdict.empty())
        text += "verdict: " + setting.verdict + "\n";
    return text;
}

} // namespace moira
