#include "tools/moira/bench_report.hpp"

#include "tools/moira/run_verdict.hpp"
#include "tools/moira/text_table.hpp"

#include <array>
#include <cstdio>

namespace moira {

namespace {

nlohmann::ordered_json spread_json(const spread& values) {
    return {{"min", values.min}, {"median", values.median}, {"max", values.max}};
}

double hit_rate(const bench_row& row) {
    const auto all = row.hits + row.demand_loads;
    return all == 0 ? 0.0 : static_cast<double>(row.hits) / static_cast<double>(all);
}

nlohmann::ordered_json experts_of(const bench_row& row) {
    return {{"budget_bytes", row.after.experts.budget_bytes},
            {"slots", row.after.experts.slots},
            {"hit_rate", hit_rate(row)},
            {"demand_loads", row.demand_loads},
            {"demand_bytes", row.demand_bytes},
            {"per_step", row.experts_per_step},
            {"per_step_measured", row.experts_measured}};
}

/// What follows from a row's medians.
struct bandwidth {
    double gb_s = 0, probe_gb_s = 0, share = 0;
};

bandwidth bandwidth_of(const bench_row& row) {
    bandwidth found;
    found.gb_s = row.bytes_per_token * spread_of(row.decode_tok_s).median / 1e9;
    found.probe_gb_s = spread_of(row.probe_gb_s).max;
    found.share = found.probe_gb_s > 0 ? found.gb_s / found.probe_gb_s : 0;
    return found;
}

std::string number(double value, int digits) {
    std::array<char, 48> text{};
    std::snprintf(text.data(), text.size(), "%.*f", digits, value);
    return text.data();
}

} // namespace

std::string bench_row_verdict(const bench_row& row) {
    auto facts = verdict_facts_of(row.after, spread_of(row.decode_tok_s).median);
    const auto speed = bandwidth_of(row);
    // More than all of it comes from caches and says nothing about memory.
    if (speed.share > 0 && speed.share <= 1)
        facts.bandwidth_share = speed.share;
    return verdict(facts);
}

nlohmann::ordered_json bench_row_json(const bench_setting& setting, const bench_row& row) {
    const auto prefill = spread_of(row.prefill_tok_s), decode = spread_of(row.decode_tok_s);
    const auto probe = spread_of(row.probe_gb_s);
    const auto speed = bandwidth_of(row);
    return {{"model", setting.model},
            {"numerics_id", row.after.identity.numerics_id},
            {"batch", row.options.batch},
            {"threads", setting.threads},
            {"prompt_tokens", row.options.prompt_tokens},
            {"gen_tokens", row.options.gen_tokens},
            {"repeat", row.options.repeat},
            {"prefill_tok_s", prefill.median},
            {"decode_tok_s", decode.median},
            {"bytes_per_token", row.bytes_per_token},
            {"gb_s", speed.gb_s},
            {"probe_gb_s", speed.probe_gb_s},
            {"bandwidth_share", speed.share},
            {"overhead_us", {{"p50", row.after.overhead_us_p50}, {"p99", row.after.overhead_us_p99}}},
            {"logits_hash", combined_hash(row.sequence_hashes)},
            {"sequence_hashes", row.sequence_hashes},
            {"hashes_equal", row.hashes_equal},
            {"prefill_tok_s_spread", spread_json(prefill)},
            {"decode_tok_s_spread", spread_json(decode)},
            {"probe",
             {{"bytes", setting.probe_bytes},
              {"kernel", row.probe_kernel},
              {"best_gb_s", probe.max},
              {"median_gb_s", probe.median},
              {"min_gb_s", probe.min}}},
            {"itl_ms", {{"p50", value_at_share(row.itl_ms, 0.5)}, {"p99", value_at_share(row.itl_ms, 0.99)}}},
            {"steps", row.steps},
            {"rows_per_step", row.rows_per_step},
            {"whole_batch", row.whole_batch},
            {"preemptions", row.after.batch.preemptions},
            {"experts", experts_of(row)},
            {"plugins", row.after.identity.plugins},
            {"lossy", row.after.identity.lossy},
            {"verdict", bench_row_verdict(row)}};
}

std::string bench_table(const bench_setting& setting, const std::vector<bench_row>& rows, bool colour) {
    text_table table({"BATCH", "PREFILL TOK/S", "DECODE TOK/S", "MIN-MAX", "ITL MS", "MIB/TOKEN", "GB/S", "PROBE",
                      "SHARE", "HIT RATE", "OVERHEAD US", "LOGITS HASH"});
    for (const auto& row : rows) {
        const auto decode = spread_of(row.decode_tok_s);
        const auto speed = bandwidth_of(row);
        table.add({std::to_string(row.options.batch), number(spread_of(row.prefill_tok_s).median, 0),
                   number(decode.median, 1), number(decode.min, 1) + "-" + number(decode.max, 1),
                   number(value_at_share(row.itl_ms, 0.5), 2), number(row.bytes_per_token / (1 << 20), 2),
                   number(speed.gb_s, 2), number(speed.probe_gb_s, 2), number(100 * speed.share, 0) + " %",
                   number(100 * hit_rate(row), 1) + " %",
                   number(row.after.overhead_us_p50, 0) + " / " + number(row.after.overhead_us_p99, 0),
                   combined_hash(row.sequence_hashes)});
    }
    std::string text = setting.model + ", " + std::to_string(setting.threads) + " threads";
    if (!rows.empty()) {
        const auto& first = rows.front();
        text += ", " + std::to_string(first.options.prompt_tokens) + " + " + std::to_string(first.options.gen_tokens) +
                " tokens per sequence, median of " + std::to_string(first.options.repeat) + ", memory probed over " +
                rounded_bytes(setting.probe_bytes);
    }
    return text + "\n" + table.print(colour);
}

} // namespace moira
