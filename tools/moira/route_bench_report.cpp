#include "tools/moira/route_bench_report.hpp"

#include "actors/request_json.hpp"
#include "tools/moira/run_verdict.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace moira {

namespace {

nlohmann::ordered_json spread_json(const spread& values) {
    return {{"min", values.min}, {"median", values.median}, {"max", values.max}};
}

double ratio(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

std::string number(double value, int digits) {
    std::array<char, 48> text{};
    std::snprintf(text.data(), text.size(), "%.*f", digits, value);
    return text.data();
}

double hit_rate(const route_bench_row& row) {
    const auto hits = row.after.hits - row.before.hits, loads = row.after.demand_loads - row.before.demand_loads;
    return ratio(static_cast<double>(hits), static_cast<double>(hits + loads));
}

/// Beside each of the simulator's counters by how much the engine's differs, as a share of it.
nlohmann::ordered_json expected_json(const route_bench_row& row) {
    if (!row.expected)
        return nullptr;
    const auto& counts = row.expected->counts;
    const auto difference = [](std::uint64_t engine, std::uint64_t simulated) {
        const double apart = static_cast<double>(engine) - static_cast<double>(simulated);
        return engine == simulated ? 0.0 : apart / std::max(1.0, static_cast<double>(simulated));
    };
    const auto& a = row.after;
    const auto& b = row.before;
    return {{"settled", row.options.settle},
            {"memory_gb_s", row.expected->memory_gb_s},
            {"disk_gb_s", row.expected->disk_gb_s},
            {"hits", counts.hits},
            {"demand_loads", counts.demand_loads},
            {"prefetch_loads", counts.prefetch_loads},
            {"prefetch_useful", counts.prefetch_useful},
            {"prefetch_wasted", counts.prefetch_wasted},
            {"difference",
             {{"demand_loads", difference(a.demand_loads - b.demand_loads, counts.demand_loads)},
              {"prefetch_loads", difference(a.prefetch_loads - b.prefetch_loads, counts.prefetch_loads)},
              {"prefetch_useful", difference(a.prefetch_useful - b.prefetch_useful, counts.prefetch_useful)},
              {"prefetch_wasted", difference(a.prefetch_wasted - b.prefetch_wasted, counts.prefetch_wasted)}}}};
}

/// Loads without prefetching that the optimum would not have needed, as a share of them.
nlohmann::ordered_json regret_json(const route_bench_row& row) {
    if (!row.optimum)
        return nullptr;
    const auto regretted = row.replayed_loads - std::min(row.optimum->loads, row.replayed_loads);
    return ratio(static_cast<double>(regretted), static_cast<double>(row.replayed_loads));
}

/// Regret against the optimum of the same steps.
std::vector<layer_statistics> layers_of(const route_bench_row& row) {
    auto layers = row.after.since(row.before).layers;
    for (auto& layer : layers)
        layer.regret_loads.reset();
    if (row.optimum)
        add_regret(layers, *row.optimum);
    return layers;
}

nlohmann::ordered_json row_experts_json(const route_bench_row& row) {
    const auto& a = row.after;
    const auto& b = row.before;
    return {
        {"budget_bytes", a.budget_bytes},
        {"slots", a.slots},
        {"policy", a.policy},
        {"bypass", a.bypass},
        {"hits", a.hits - b.hits},
        {"demand_loads", a.demand_loads - b.demand_loads},
        {"demand_bytes", a.demand_bytes - b.demand_bytes},
        {"hit_rate", hit_rate(row)},
        {"demand_loads_without_prefetch", row.replayed_loads},
        {"demand_loads_optimal", row.optimum ? nlohmann::ordered_json(row.optimum->loads) : nlohmann::ordered_json()},
        {"regret_share", regret_json(row)},
        {"simulated", expected_json(row)},
        {"prefetch_loads", a.prefetch_loads - b.prefetch_loads},
        {"prefetch_useful", a.prefetch_useful - b.prefetch_useful},
        {"prefetch_wasted", a.prefetch_wasted - b.prefetch_wasted},
        {"prefetch_wasted_bytes", a.prefetch_wasted_bytes - b.prefetch_wasted_bytes},
        {"prefetch_open", a.prefetch_open},
        {"hints",
         {{"given", a.hints.given - b.hints.given},
          {"refused", a.hints.refused - b.hints.refused},
          {"cancelled", a.hints.cancelled - b.hints.cancelled}}},
        {"load_retries", a.load_retries - b.load_retries},
        {"load_failures", a.load_failures - b.load_failures},
        {"layers", expert_layers_json(layers_of(row))}};
}

} // namespace

std::string route_bench_verdict(const route_bench_row& row) {
    runtime_statistics measured;
    measured.experts = row.after.since(row.before);
    measured.stall_s = measured.experts.step_stall_s;
    measured.compute_s = measured.experts.compute_s + measured.stall_s;
    measured.identity.lossy = row.lossy;
    return verdict(verdict_facts_of(measured, spread_of(row.decode_tok_s).median));
}

nlohmann::ordered_json route_bench_json(const bench_setting& setting, const route_bench_row& row) {
    const auto decode = spread_of(row.decode_tok_s);
    const auto bounds = bounds_of(row);
    return {{"model", setting.model},
            {"batch", row.options.batch},
            {"threads", setting.threads},
            {"warm_up", row.options.warm_up},
            {"gen_tokens", row.options.gen_tokens},
            {"repeat", row.options.repeat},
            {"decode_tok_s", decode.median},
            {"decode_tok_s_spread", spread_json(decode)},
            {"steps", row.steps},
            {"wall_s", row.wall_s},
            {"compute_s", row.after.compute_s - row.before.compute_s},
            {"stall_s", row.after.step_stall_s - row.before.step_stall_s},
            {"link_idle_s", row.after.link_idle_s - row.before.link_idle_s},
            {"experts", row_experts_json(row)},
            {"disk_gb_s", spread_json(spread_of(row.disk_gb_s))},
            {"disk_direct", row.disk_direct},
            {"memory_gb_s", spread_json(spread_of(row.memory_gb_s))},
            {"bounds",
             {{"step_weight_bytes", row.step_weight_bytes},
              {"compute_s_per_step", bounds.compute_s},
              {"load_s_per_step", bounds.load_s},
              {"demand_only_tok_s", bounds.demand_only_tok_s},
              {"overlap_tok_s", bounds.overlap_tok_s},
              {"share_of_demand_only", ratio(decode.median, bounds.demand_only_tok_s)},
              {"share_of_overlap", ratio(decode.median, bounds.overlap_tok_s)}}},
            {"logits_hash", row.logits_hash},
            {"verdict", route_bench_verdict(row)}};
}

std::string route_bench_table(const bench_setting& setting, const std::vector<route_bench_row>& rows, bool colour) {
    text_table table({"BATCH", "TOK/S", "MIN-MAX", "HIT RATE", "LOADS/STEP", "PREFETCHED", "WASTED", "COMPUTE", "STALL",
                      "LINK IDLE", "DISK GB/S", "DEMAND BOUND", "OVERLAP BOUND", "LOGITS HASH"});
    for (const auto& row : rows) {
        const auto decode = spread_of(row.decode_tok_s);
        const auto bounds = bounds_of(row);
        const auto& a = row.after;
        const auto& b = row.before;
        const auto steps = static_cast<double>(row.steps);
        const auto share = [&](double seconds) { return number(100 * ratio(seconds, row.wall_s), 0) + " %"; };
        const auto bound = [&](double tok_s) {
            return number(tok_s, 2) + " (" + number(100 * ratio(decode.median, tok_s), 0) + " %)";
        };
        table.add({std::to_string(row.options.batch), number(decode.median, 2),
                   number(decode.min, 2) + "-" + number(decode.max, 2), number(100 * hit_rate(row), 1) + " %",
                   number(ratio(static_cast<double>(a.demand_loads - b.demand_loads), steps), 1),
                   number(ratio(static_cast<double>(a.prefetch_loads - b.prefetch_loads), steps), 1),
                   number(ratio(static_cast<double>(a.prefetch_wasted - b.prefetch_wasted), steps), 1),
                   share(a.compute_s - b.compute_s), share(a.step_stall_s - b.step_stall_s),
                   share(a.link_idle_s - b.link_idle_s), number(spread_of(row.disk_gb_s).median, 2),
                   bound(bounds.demand_only_tok_s), bound(bounds.overlap_tok_s), row.logits_hash});
    }
    std::string text = setting.model + ", " + std::to_string(setting.threads) + " threads";
    if (!rows.empty())
        text += ", " + std::to_string(rows.front().options.gen_tokens) + " tokens after " +
                std::to_string(rows.front().options.warm_up) + ", median of " +
                std::to_string(rows.front().options.repeat) + ", " + std::to_string(rows.front().after.slots) +
                " expert slots";
    return text + "\n" + table.print(colour);
}

} // namespace moira
