#include "tools/moira/op_bench_report.hpp"

#include "tools/moira/text_table.hpp"

#include <array>
#include <cstdio>

namespace moira {

namespace {

double per(double value, double count) {
    return count > 0 ? value / count : 0;
}

std::string number(double value, int digits) {
    std::array<char, 48> text{};
    std::snprintf(text.data(), text.size(), "%.*f", digits, value);
    return text.data();
}

std::string percent(double share) {
    return number(100 * share, 0) + " %";
}

nlohmann::ordered_json op_json(const op_timing& op) {
    return {{"op", op.op},
            {"detail", op.detail},
            {"plugin", op.plugin},
            {"calls_per_step", op.calls_per_step},
            {"us_per_call", per(op.us_per_step, op.calls_per_step)},
            {"us_per_step", op.us_per_step},
            {"bytes_per_call", per(op.bytes_per_step, op.calls_per_step)},
            {"gb_s", op.gb_s},
            {"bandwidth_share", op.bandwidth_share},
            {"gflop_s", op.gflop_s},
            {"flop_share", op.flop_share}};
}

} // namespace

nlohmann::ordered_json step_timing_json(const step_timing& step) {
    nlohmann::ordered_json json{{"rows", step.rows},
                                {"step_us", step.step_us},
                                {"ops_us", step.ops_us},
                                {"ops_per_step", step.ops_per_step},
                                {"us_per_op", per(step.ops_us, step.ops_per_step)},
                                {"experts_per_step", step.experts_per_step},
                                {"bytes", step.weight_bytes},
                                {"gb_s", step.gb_s},
                                {"bandwidth_share", step.bandwidth_share},
                                {"gflop", step.gflop},
                                {"gflop_s", step.gflop_s},
                                {"flop_share", step.flop_share}};
    json["kinds"] = nlohmann::ordered_json::array();
    for (const auto& op : step.ops)
        json["kinds"].push_back(op_json(op));
    return json;
}

namespace {

struct all_peaks {
    std::vector<double> f32, bf16;
};

all_peaks peaks_of(const std::vector<flop_peaks>& found) {
    all_peaks all;
    for (const auto& peaks : found) {
        all.f32.push_back(peaks.f32_gflop_s);
        all.bf16.push_back(peaks.bf16_gflop_s);
    }
    return all;
}

} // namespace

nlohmann::ordered_json spread_json(const std::vector<double>& values) {
    const auto all = spread_of(values);
    return {{"min", all.min}, {"median", all.median}, {"max", all.max}};
}

nlohmann::ordered_json peaks_json(const std::vector<flop_peaks>& all) {
    const auto peaks = peaks_of(all);
    return {{"f32", spread_json(peaks.f32)}, {"bf16", spread_json(peaks.bf16)}};
}

std::string bounds_text(const std::vector<double>& probe_gb_s, const std::vector<flop_peaks>& all) {
    const auto peaks = peaks_of(all);
    return "memory probe " + number(spread_of(probe_gb_s).median, 1) + " GB/s, peaks " +
           number(spread_of(peaks.f32).median, 0) + " GFLOP/s in float32, " + number(spread_of(peaks.bf16).median, 0) +
           " in BF16";
}

namespace {

std::string step_name(const step_timing& step) {
    return (step.prefill ? "prefill, " : "decode, ") + std::to_string(step.rows) + (step.rows == 1 ? " row" : " rows");
}

std::string steps_table(const op_bench& found, bool colour) {
    text_table table(
        {"STEP", "US", "IN OPS", "OPS", "US/OP", "EXPERTS", "MIB", "GB/S", "OF PROBE", "GFLOP/S", "OF PEAK"});
    for (const auto& step : found.steps)
        table.add({step_name(step), number(step.step_us, 0), number(step.ops_us, 0), number(step.ops_per_step, 0),
                   number(per(step.ops_us, step.ops_per_step), 1), number(step.experts_per_step, 0),
                   number(step.weight_bytes / (1 << 20), 1), number(step.gb_s, 1), percent(step.bandwidth_share),
                   number(step.gflop_s, 1), percent(step.flop_share)});
    return table.print(colour);
}

} // namespace

std::string op_table(const step_timing& step, bool colour) {
    text_table table({"OP", "OF", "CALLS", "US/CALL", "US/STEP", "KIB/CALL", "GB/S", "OF PROBE", "GFLOP/S", "OF PEAK"});
    for (const auto& op : step.ops) {
        const auto bounded = [&](const std::string& text) { return op.matrix_product ? text : std::string(); };
        table.add({op.op, op.detail, number(op.calls_per_step, 0), number(per(op.us_per_step, op.calls_per_step), 1),
                   number(op.us_per_step, 0), number(per(op.bytes_per_step, op.calls_per_step) / 1024, 0),
                   number(op.gb_s, 1), bounded(percent(op.bandwidth_share)), bounded(number(op.gflop_s, 1)),
                   bounded(percent(op.flop_share))});
    }
    return table.print(colour);
}

nlohmann::ordered_json op_bench_json(const op_bench& found, const bench_row& row) {
    nlohmann::ordered_json json;
    for (const auto& step : found.steps)
        if (step.prefill) {
            json["prefill"] = step_timing_json(step);
            // Of the whole runtime, with this row's prompts.
            const auto gflop_s = spread_of(row.prefill_tok_s).median * per(step.gflop, step.rows);
            json["prefill"]["end_to_end_gflop_s"] = gflop_s;
            json["prefill"]["end_to_end_flop_share"] = per(gflop_s, per(step.gflop_s, step.flop_share));
        } else if (step.rows == row.options.batch) {
            json["decode"] = step_timing_json(step);
        }
    json["probe_gb_s"] = spread_json(found.probe_gb_s);
    json["peak_gflop_s"] = peaks_json(found.peaks);
    json["packing"] = {
        {"gb_s", found.packing.gb_s_one_thread}, {"threads", 1}, {"expert_bytes", found.packing.expert_bytes}};
    return json;
}

std::string op_bench_text(const op_bench& found, bool colour) {
    std::string text = "\nsteps, alone in the engine: " + bounds_text(found.probe_gb_s, found.peaks) +
                       "; packing experts " + number(found.packing.gb_s_one_thread, 2) + " GB/s per thread\n" +
                       steps_table(found, colour);
    for (const auto& step : found.steps)
        text += "\n" + step_name(step) + ":\n" + op_table(step, colour);
    return text;
}

} // namespace moira
