#include "tools/moira/op_report.hpp"

#include "core/execute/kv_type.hpp"
#include "core/experts/checkpoint_slab_source.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>

namespace moira {

namespace {

execution_limits limits_of(const model_shape& shape, const settings& all) {
    execution_limits limits;
    limits.rows_max = all.batch.max_step_tokens;
    limits.logits_rows_max = all.batch.max_sequences;
    const std::int32_t wanted = all.context.max_tokens;
    limits.context_max = wanted == 0 ? shape.context_max : std::min(wanted, shape.context_max);
    limits.page_tokens = all.context.page_tokens;
    // One full context: what a plugin says of an op does not depend on more.
    limits.pages = (limits.context_max + limits.page_tokens - 1) / limits.page_tokens;
    return limits;
}

/// How the checkpoint's weights will be read. Errors: those of find_weight and expert_quantization.
result<weight_forms> weight_forms_of(const checkpoint& model, const settings& all) {
    const auto names = weight_names(model.shape());
    const auto& attention = names.layers.front().attention;
    const auto embedding = find_weight(model, names.embedding);
    const auto head = find_weight(model, names.head);
    const auto linear = find_weight(model, attention.o);
    for (const auto* found : {&embedding, &head, &linear})
        if (!*found)
            return fail(found->error().code, model.folder().string() + ": " + found->error().message);
    const auto experts = expert_quantization(
        model, names, all.experts.precision == "fp8" ? expert_precision::fp8 : expert_precision::keep);
    if (!experts)
        return fail(experts.error().code, model.folder().string() + ": " + experts.error().message);
    weight_forms forms{.embedding = embedding->quantization.weight_type,
                       .head = head->quantization,
                       .linear = linear->quantization,
                       .experts = *experts};
    if (!attention.kv_b.empty()) {
        const auto kv_b = find_weight(model, attention.kv_b);
        if (!kv_b)
            return fail(kv_b.error().code, model.folder().string() + ": " + kv_b.error().message);
        forms.kv_b = kv_b->widened_type();
    }
    return forms;
}

op_report report_op(const moira_op_header& header, const plugin_host& host) {
    op_report report;
    report.op = op_name(header.op);
    if (auto choice = host.choose(header)) {
        report.chosen = choice->provider->plugin;
        report.numerics_id = std::move(choice->numerics_id);
        report.row_exact = choice->row_exact;
        report.candidates = std::move(choice->candidates);
        report.score = report.candidates.empty() ? 0 : report.candidates.front().score;
    } else {
        report.missing = choice.error().message;
    }
    for (const found_plugin& plugin : host.found())
        if (!plugin.open)
            report.candidates.push_back({plugin.name, 0, plugin.reason});
    return report;
}

} // namespace

result<std::vector<op_report>> report_ops(const checkpoint& model, const plugin_host& host, const settings& all) {
    const auto weights = weight_forms_of(model, all);
    if (!weights)
        return tl::unexpected(weights.error());
    auto limits = limits_of(model.shape(), all);
    limits.kv_type = choose_kv_type(host, model.shape(), limits);
    std::vector<op_report> reports;
    for (const op_description& op : ops_of_model(model.shape(), limits, *weights))
        reports.push_back(report_op(header_of(op), host));
    return reports;
}

nlohmann::ordered_json op_report_json(const std::vector<op_report>& ops) {
    auto rows = nlohmann::ordered_json::array();
    for (const auto& op : ops) {
        auto candidates = nlohmann::ordered_json::array();
        for (const auto& candidate : op.candidates)
            candidates.push_back(
                {{"name", candidate.plugin}, {"score", candidate.score}, {"reason", candidate.reason}});
        nlohmann::ordered_json row{{"op", op.op},
                                   {"chosen", nullptr},
                                   {"score", op.score},
                                   {"numerics_id", op.numerics_id},
                                   {"row_exact", op.row_exact},
                                   {"candidates", std::move(candidates)}};
        if (op.missing.empty())
            row["chosen"] = op.chosen;
        else
            row["missing"] = op.missing;
        rows.push_back(std::move(row));
    }
    return rows;
}

std::string op_report_text(const std::vector<op_report>& ops, bool why, bool colour) {
    if (!why) {
        text_table table({"OP", "RUNS ON", "SCORE"});
        for (const auto& op : ops)
            table.add({op.op, op.chosen.empty() ? "nobody: see --why" : op.chosen, std::to_string(op.score)});
        return table.print(colour);
    }
    text_table table({"OP", "PLUGIN", "SCORE", "", "WHY"});
    for (const auto& op : ops) {
        if (!op.missing.empty())
            table.add({op.op, "nobody", "0", "missing", op.missing});
        for (const auto& candidate : op.candidates) {
            const bool chosen = candidate.plugin == op.chosen && candidate.score > 0;
            table.add(
                {op.op, candidate.plugin, std::to_string(candidate.score), chosen ? "chosen" : "", candidate.reason});
        }
    }
    return table.print(colour);
}

} // namespace moira
