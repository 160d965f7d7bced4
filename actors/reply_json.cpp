#include "actors/request_json.hpp"

#include <nlohmann/json.hpp>

namespace moira {

using nlohmann::ordered_json;

namespace {

/// Recall of one source at 1 .. ranks predictions.
ordered_json source_json(const route_quality& quality, const route_report& report) {
    const auto k = static_cast<std::size_t>(report.top_k);
    ordered_json recall_at = ordered_json::array();
    for (std::size_t first = 1; first <= static_cast<std::size_t>(report.ranks); ++first)
        recall_at.push_back(quality.recall_at(first));
    return {{"rows", quality.rows}, {"recall", quality.recall_at(k)}, {"recall_at", std::move(recall_at)},
            {"precision", quality.precision_at(k)}};
}

ordered_json prediction_json(const expert_store_statistics& experts) {
    if (!experts.prediction)
        return nullptr;
    const auto& report = *experts.prediction;
    ordered_json value;
    value["hints"] = name_of(report.hints);
    for (const auto source : route_source_list)
        if (source <= route_source::control || report.of(source).rows > 0)
            value[std::string(name_of(source))] = source_json(report.of(source), report);
    value["observations_dropped"] = experts.prediction->dropped;
    value["hints_given"] = experts.hints.given;
    value["hints_refused"] = experts.hints.refused;
    value["hints_cancelled"] = experts.hints.cancelled;
    value["misses_covered"] =
        experts.hints.misses == 0
            ? ordered_json(nullptr)
            : ordered_json(static_cast<double>(experts.hints.absent_chosen) / static_cast<double>(experts.hints.misses));
    value["prefetch_wasted"] = experts.prefetch_wasted;
    value["prefetch_open"] = experts.prefetch_open;
    return value;
}

ordered_json pruning_json(const expert_store_statistics& experts) {
    if (!experts.pruning)
        return nullptr;
    const auto& counted = experts.pruning->all;
    return {{"routings", counted.routings},
            {"left_out", counted.left_out},
            {"replaced", counted.replaced},
            {"skipped_share", counted.skipped_share()}};
}

ordered_json or_null(const std::optional<double>& value) { return value ? ordered_json(*value) : ordered_json(nullptr); }

/// How far the latest visits were from the optimum; null: nobody reckoned.
ordered_json regret_json(const std::optional<expert_regret>& regret) {
    if (!regret)
        return nullptr;
    return {{"uses", regret->uses},
            {"loads", regret->loads},
            {"optimal_loads", regret->optimal_loads},
            {"share", or_null(regret->share())}};
}

ordered_json demand_json(const expert_demand& demand) {
    return {{"hits", demand.hits}, {"demand_loads", demand.demand_loads}, {"demand_bytes", demand.demand_bytes}};
}

} // namespace

std::optional<double> prediction_recall(const expert_store_statistics& experts) {
    if (!experts.prediction || experts.prediction->of(experts.prediction->hints).rows == 0)
        return std::nullopt;
    const auto& report = *experts.prediction;
    return report.of(report.hints).recall_at(static_cast<std::size_t>(report.top_k));
}

std::optional<double> prediction_precision(const expert_store_statistics& experts) {
    if (experts.hints.absent == 0)
        return std::nullopt;
    return static_cast<double>(experts.hints.absent_chosen) / static_cast<double>(experts.hints.absent);
}

/// Of the store below the one on a GPU; null: there is none.
static ordered_json host_tier_json(const expert_store_statistics& experts) {
    if (!experts.host_tier)
        return nullptr;
    const auto& tier = *experts.host_tier;
    return {{"budget_bytes", tier.budget_bytes}, {"slots", tier.slots},
            {"resident", tier.resident},         {"hit_rate", tier.hit_rate()},
            {"demand_loads", tier.demand_loads}, {"demand_bytes", tier.demand_bytes},
            {"stall_s", tier.stall_s}};
}

ordered_json experts_json(const expert_store_statistics& experts) {
    return {
        {"budget_bytes", experts.budget_bytes},
        {"slots", experts.slots},
        {"resident", experts.resident},
        {"hit_rate", experts.hit_rate()},
        {"hits", experts.hits},
        {"demand_loads", experts.demand_loads},
        {"demand_bytes", experts.demand_bytes},
        {"drafted", demand_json(experts.drafted)},
        {"mtp", demand_json(experts.module)},
        {"prefetch_loads", experts.prefetch_loads},
        {"prefetch_useful", experts.prefetch_useful},
        {"prefetch_wasted_bytes", experts.prefetch_wasted_bytes},
        {"stall_s", experts.stall_s},
        {"compute_s", experts.compute_s},
        {"link_idle_s", experts.link_idle_s},
        {"recall", or_null(prediction_recall(experts))},
        {"precision", or_null(prediction_precision(experts))},
        {"prediction", prediction_json(experts)},
        {"pruning", pruning_json(experts)},
        {"host_tier", host_tier_json(experts)},
    };
}

ordered_json expert_layers_json(std::span<const layer_statistics> layers) {
    auto rows = ordered_json::array();
    for (const auto& layer : layers)
        rows.push_back({{"layer", layer.layer},
                        {"hits", layer.hits},
                        {"demand_loads", layer.demand_loads},
                        {"loads", layer.loads},
                        {"hit_rate", or_null(layer.hit_rate())},
                        {"recall", or_null(layer.recall())},
                        {"prefetch_loads", layer.prefetch_loads},
                        {"prefetch_useful", layer.prefetch_useful},
                        {"prefetch_wasted", layer.prefetch_wasted},
                        {"prefetch_wasted_bytes", layer.prefetch_wasted_bytes},
                        {"stall_s", layer.stall_s},
                        {"regret_loads", layer.regret_loads ? ordered_json(*layer.regret_loads) : nullptr}});
    return rows;
}

ordered_json experts_report_json(const expert_store_statistics& experts) {
    auto value = experts_json(experts);
    value["experts"] = experts.slots_all;
    value["slot_bytes"] = experts.slot_bytes;
    value["policy"] = experts.policy;
    value["bypass"] = experts.bypass;
    value["evictions"] = experts.evictions;
    value["prefetch_wasted"] = experts.prefetch_wasted;
    value["slots_to_halve"] = experts.slots_to_halve;
    value["regret"] = regret_json(experts.regret);
    value["layers"] = expert_layers_json(experts.layers);
    return value;
}

ordered_json speculation_json(const runtime_identity& identity, const speculation_counts& counts) {
    const auto share = [](std::uint64_t part, std::uint64_t all) {
        return static_cast<double>(part) / static_cast<double>(all);
    };
    return {{"mode", identity.speculation_mode},
            {"drafted", counts.drafted},
            {"accepted", counts.accepted},
            {"acceptance",
             counts.drafted == 0 ? ordered_json(nullptr) : ordered_json(share(counts.accepted, counts.drafted))},
            {"mean_draft", counts.steps == 0 ? 0.0 : share(counts.drafted, counts.steps)},
            {"steps", counts.steps}};
}

ordered_json usage_json(const generation_result& outcome) {
    return {{"prompt_tokens", outcome.prompt_tokens},
            {"completion_tokens", outcome.completion_tokens},
            {"cached_tokens", outcome.cached_tokens}};
}

ordered_json moira_json(const runtime_identity& identity, const expert_store_statistics& experts,
                        const generation_result& outcome, std::span<const std::string> ignored) {
    ordered_json value;
    value["logits_hash"] = outcome.logits_hash;
    value["numerics_id"] = identity.numerics_id;
    value["seed"] = outcome.seed;
    value["lossy"] = identity.lossy;
    value["plugins"] = identity.plugins;
    value["experts"] = experts_json(experts);
    value["speculation"] = speculation_json(identity, outcome.speculation);
    value["ignored"] = std::vector<std::string>(ignored.begin(), ignored.end());
    return value;
}

ordered_json error_json(const error& why) {
    const auto& row = describe(why.code);
    auto message = why.message;
    if (message.empty())
        message = row.advice;
    return {{"code", row.name}, {"message", std::move(message)}};
}

ordered_json statistics_json(const runtime_statistics& statistics) {
    const auto& batch = statistics.batch;
    ordered_json value{
        {"model", statistics.identity.model},
        {"numerics_id", statistics.identity.numerics_id},
        {"vocabulary", statistics.identity.vocabulary},
        {"context_max", statistics.identity.context_max},
        {"uptime_s", statistics.uptime_s},
        {"draining", statistics.draining},
        {"step_hangs", statistics.step_hangs},
        {"restarts", statistics.restarts},
        {"waiting", batch.waiting},
        {"running", batch.running},
        {"kv_pages_free", batch.pages_free},
        {"kv_pages_total", batch.pages_total},
        {"admitted", batch.admitted},
        {"finished", batch.finished},
        {"cancelled", batch.cancelled},
        {"failed", batch.failed},
        {"preemptions", batch.preemptions},
        {"steps", batch.steps},
        {"rows", batch.rows},
        {"prompt_tokens", batch.prompt_tokens},
        {"completion_tokens", batch.completion_tokens},
        {"cached_tokens", batch.cached_tokens},
        {"compute_s", statistics.compute_s},
        {"stall_s", statistics.stall_s},
    };
    value["overhead_us"] = ordered_json{{"p50", statistics.overhead_us_p50}, {"p99", statistics.overhead_us_p99}};
    value["experts"] = experts_report_json(statistics.experts);
    value["speculation"] = speculation_json(statistics.identity, batch.speculation);
    value["speculation"]["dropped"] = batch.dropped_drafts;
    value["speculation"]["draft_failures"] = batch.draft_failures;
    value["plugins"] = statistics.identity.plugins;
    value["lossy"] = statistics.identity.lossy;
    return value;
}

std::string json_text(const ordered_json& value) {
    return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

} // namespace moira
