#include "core/evaluate/golden.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/load_model.hpp"

#include <cstdio>

namespace moira {

namespace {

struct golden_options {
    std::string folder;
    std::optional<double> tolerance;
};

/// --tolerance, or what the record's folder says about bfloat16 when the kernels compute in it, or float32's.
result<golden_limits> limits_of(const golden_options& options, const engine& model) {
    golden_limits limits;
    if (options.tolerance) {
        limits.max_abs_error = *options.tolerance;
        limits.rows_rerouted_max = std::numeric_limits<std::int32_t>::max();
        limits.greedy_margin_min = 2 * *options.tolerance;
        return limits;
    }
    if (model.numerics_id().find("bf16") == std::string::npos)
        return limits;
    auto measured = read_bf16_limits(options.folder);
    if (!measured)
        return tl::unexpected(measured.error());
    if (!*measured)
        return fail(errc::invalid_argument, "the kernels compute in bfloat16 and " + options.folder +
                                                " has no bf16.json with what to expect: pass --tolerance, or choose "
                                                "float32 kernels with --set compute.plugin=cpu_reference");
    return **measured;
}

nlohmann::ordered_json json_number(const std::optional<double>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json golden_json(const golden_report& report, const engine& model) {
    return {{"max_abs_error", report.max_abs_error},
            {"median_row_error", report.median_row_error},
            {"max_error_same_route", report.max_error_same_route},
            {"hidden_max_error", report.hidden_max_error},
            {"mtp_max_error", json_number(report.mtp_max_error)},
            {"mtp_median_row_error", json_number(report.mtp_median_row_error)},
            {"rows", report.rows},
            {"rows_rerouted", report.rows_rerouted},
            {"greedy_match", report.greedy_match},
            {"greedy_skipped", report.greedy_skipped},
            {"greedy_steps", report.greedy_steps},
            {"absent", report.absent},
            {"violations", report.violations},
            {"numerics_id", model.numerics_id()},
            {"passed", report.passed()}};
}

std::string golden_text(const golden_report& report, const engine& model) {
    char line[512];
    std::snprintf(line, sizeof line,
                  "%s\nlogits    largest error %.3g, median row %.3g, rows with the same experts %.3g\n"
                  "routing   %d of %d rows chose other experts\nhidden    largest error %.3g\n"
                  "greedy    %d of %d tokens equal, %d skipped at near ties\n",
                  model.numerics_id().c_str(), report.max_abs_error, report.median_row_error,
                  report.max_error_same_route, report.rows_rerouted, report.rows, report.hidden_max_error,
                  report.greedy_match, report.greedy_steps, report.greedy_skipped);
    std::string text = line;
    if (report.mtp_max_error) {
        std::snprintf(line, sizeof line, "mtp       largest error %.3g, median row %.3g\n", *report.mtp_max_error,
                      report.mtp_median_row_error.value_or(0));
        text += line;
    }
    for (const auto& name : report.absent)
        text += "absent    " + name + "\n";
    for (const auto& violation : report.violations)
        text += "violated  " + violation + "\n";
    return text + (report.passed() ? "passed\n" : "failed\n");
}

result<exit_code> run_golden(const golden_options& options, command_context& context) {
    auto record = read_golden(options.folder);
    if (!record)
        return tl::unexpected(record.error());
    auto room = load_model(options.folder, context, !record->mtp_logits.empty());
    if (!room)
        return tl::unexpected(room.error());
    auto limits = limits_of(options, *room->model);
    if (!limits)
        return tl::unexpected(limits.error());
    auto report = compare_with_golden(*room->model, *record, *limits);
    if (!report)
        return tl::unexpected(report.error());
    const auto printed = context.json ? print_json(golden_json(*report, *room->model))
                                      : print_text(golden_text(*report, *room->model));
    if (!printed)
        return tl::unexpected(printed.error());
    return report->passed() ? exit_done : exit_check_failed;
}

}  // namespace

void add_eval_command(command_line& line) {
    CLI::App& group = line.add(line.root(), "eval", "measure quality, and compare results with what they should be", {});
    auto options = std::make_shared<golden_options>();
    CLI::App& golden = line.add(group, "golden", "compare logits, hidden states, routing and greedy tokens with DIR/golden.safetensors",
                                [options](command_context& context) { return run_golden(*options, context); });
    golden.add_option("DIR", options->folder, "a checkpoint with its golden.safetensors")->required();
    golden.add_option("--tolerance", options->tolerance, "largest error of a logit in rows with the same experts")->type_name("X");
    add_eval_perplexity_command(line, group);
    add_eval_divergence_command(line, group);
    add_eval_tasks_command(line, group);
}

}  // namespace moira
