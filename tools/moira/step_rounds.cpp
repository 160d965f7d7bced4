#include "tools/moira/step_rounds.hpp"

#include <algorithm>

namespace moira {

namespace {

attended_context context_of(const step_plan& plan) {
    attended_context context;
    std::map<std::int32_t, std::int32_t> longest; // of each sequence
    for (const auto& row : plan.attention_rows) {
        context.row_positions += static_cast<std::uint64_t>(row.context_length);
        auto& length = longest[row.page_table_offset];
        length = std::max(length, row.context_length);
    }
    for (const auto& [sequence, length] : longest)
        context.kv_positions += static_cast<std::uint64_t>(length);
    return context;
}

double median(std::vector<double> values) {
    return spread_of(std::move(values)).median;
}

double ratio(double value, double by) {
    return by > 0 ? value / by : 0;
}

} // namespace

class step_rounds::recorder final : public launch_watch {
public:
    recorder(step_rounds& owner, const step_plan& plan) : owner_(owner), context_(context_of(plan)) {}

    void launched(const bound_launch& launch, double seconds) override {
        const auto& desc = launch.op->desc();
        const op_key key{op_name(desc.op), op_detail(desc)};
        auto& sum = sums[key];
        if (sum.calls == 0)
            owner_.plugins_.emplace(key, launch.op->provider->plugin);
        const auto cost = cost_of(launch, context_);
        ++sum.calls;
        sum.seconds += seconds;
        sum.cost.bytes += cost.bytes;
        sum.cost.flop += cost.flop;
        sum.cost.matrix_product = cost.matrix_product;
        sum.cost.bf16_product = cost.bf16_product && launch.op->numerics_id.find("bf16") != std::string::npos;
        owner_.bf16_ = owner_.bf16_ || sum.cost.bf16_product;
        if (desc.op != MOIRA_OP_EXPERT_FFN || reinterpret_cast<const moira_expert_ffn_desc&>(desc).experts == 1)
            return; // one entry: a dense layer or a shared expert
        owner_.expert_provider_ = launch.op->provider;
        experts += static_cast<const moira_expert_ffn_args*>(launch.args)->groups;
    }

    op_sums sums;
    double experts = 0;

private:
    step_rounds& owner_;
    attended_context context_;
};

result<void> step_rounds::run(engine& model, const step_plan& plan, bool watched) {
    recorder watch(*this, plan);
    if (watched)
        model.watch_launches(&watch);
    const auto start = bench_clock::now();
    const auto outcome = model.run_step(plan);
    const std::chrono::duration<double> elapsed = bench_clock::now() - start;
    model.watch_launches(nullptr);
    if (outcome.failure)
        return tl::unexpected(*outcome.failure);
    if (outcome.stall_s > 0)
        return {};
    auto& now = rounds_.back();
    if (watched) {
        now.watched.push_back(std::move(watch.sums));
        now.experts.push_back(watch.experts);
    } else {
        now.step_seconds.push_back(elapsed.count());
    }
    return {};
}

double step_rounds::peak_of(const bounds& beside, const op_cost& cost) const {
    return cost.bf16_product ? beside.peaks.bf16_gflop_s : beside.peaks.f32_gflop_s;
}

op_timing step_rounds::summary_of(const op_key& key, const std::vector<bounds>& beside) const {
    op_timing found;
    found.op = key.first;
    found.detail = key.second;
    found.plugin = plugins_.at(key);
    std::vector<double> calls, seconds, bytes, gb_s, gflop_s, bandwidth_shares, flop_shares;
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
        std::vector<double> round_gb_s, round_gflop_s;
        double peak = 0;
        for (const auto& sums : rounds_[i].watched) {
            const auto at = sums.find(key);
            if (at == sums.end())
                continue;
            const auto& sum = at->second;
            calls.push_back(static_cast<double>(sum.calls));
            seconds.push_back(sum.seconds);
            bytes.push_back(static_cast<double>(sum.cost.bytes));
            round_gb_s.push_back(ratio(bytes.back() / 1e9, sum.seconds));
            round_gflop_s.push_back(ratio(static_cast<double>(sum.cost.flop) / 1e9, sum.seconds));
            peak = peak_of(beside[i], sum.cost);
            found.matrix_product = sum.cost.matrix_product;
        }
        if (round_gb_s.empty())
            continue;
        bandwidth_shares.push_back(ratio(median(round_gb_s), beside[i].probe_gb_s));
        flop_shares.push_back(ratio(median(round_gflop_s), peak));
        gb_s.insert(gb_s.end(), round_gb_s.begin(), round_gb_s.end());
        gflop_s.insert(gflop_s.end(), round_gflop_s.begin(), round_gflop_s.end());
    }
    found.calls_per_step = median(calls);
    found.us_per_step = median(seconds) * 1e6;
    found.bytes_per_step = median(bytes);
    found.gb_s = median(gb_s);
    found.bandwidth_share = median(bandwidth_shares);
    found.gflop_s = median(gflop_s);
    found.flop_share = median(flop_shares);
    return found;
}

void step_rounds::add_step_rates(step_timing& step, const std::vector<bounds>& beside) const {
    std::vector<double> step_seconds, ops_seconds, ops_calls, experts, all_bytes, all_gflop, bandwidth_shares,
        flop_shares;
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
        std::vector<double> round_bytes, round_gflop;
        for (const auto& sums : rounds_[i].watched) {
            double seconds = 0, calls = 0, bytes = 0, gflop = 0;
            for (const auto& [key, sum] : sums) {
                seconds += sum.seconds;
                calls += static_cast<double>(sum.calls);
                bytes += sum.cost.matrix_product ? static_cast<double>(sum.cost.bytes) : 0.0;
                gflop += static_cast<double>(sum.cost.flop) / 1e9;
            }
            ops_seconds.push_back(seconds);
            ops_calls.push_back(calls);
            round_bytes.push_back(bytes);
            round_gflop.push_back(gflop);
        }
        experts.insert(experts.end(), rounds_[i].experts.begin(), rounds_[i].experts.end());
        if (round_bytes.empty() || rounds_[i].step_seconds.empty())
            continue;
        const double seconds = median(rounds_[i].step_seconds);
        step_seconds.push_back(seconds);
        all_bytes.push_back(median(round_bytes));
        all_gflop.push_back(median(round_gflop));
        bandwidth_shares.push_back(ratio(ratio(all_bytes.back() / 1e9, seconds), beside[i].probe_gb_s));
        const auto peak = peak_of(beside[i], op_cost{0, 0, true, bf16_});
        flop_shares.push_back(ratio(ratio(all_gflop.back(), seconds), peak));
    }
    step.step_us = median(step_seconds) * 1e6;
    step.ops_us = median(ops_seconds) * 1e6;
    step.ops_per_step = median(ops_calls);
    step.experts_per_step = median(experts);
    step.weight_bytes = median(all_bytes);
    step.gflop = median(all_gflop);
    step.gb_s = ratio(step.weight_bytes / 1e3, step.step_us);
    step.gflop_s = ratio(step.gflop * 1e6, step.step_us);
    step.bandwidth_share = median(bandwidth_shares);
    step.flop_share = median(flop_shares);
}

step_timing step_rounds::summary(const std::vector<double>& probe_gb_s, const std::vector<flop_peaks>& peaks) const {
    // Beside a round: what the machine gave at its begin and end. Peaks flip when a neighbour comes; the mean stands
    // for both.
    std::vector<bounds> beside;
    for (std::size_t i = 0; i < rounds_.size(); ++i)
        beside.push_back({(probe_gb_s[i] + probe_gb_s[i + 1]) / 2,
                          {(peaks[i].f32_gflop_s + peaks[i + 1].f32_gflop_s) / 2,
                           (peaks[i].bf16_gflop_s + peaks[i + 1].bf16_gflop_s) / 2}});
    step_timing step;
    step.rows = rows_;
    step.prefill = prefill_;
    add_step_rates(step, beside);
    for (const auto& [key, plugin] : plugins_)
        step.ops.push_back(summary_of(key, beside));
    std::sort(step.ops.begin(), step.ops.end(),
              [](const op_timing& a, const op_timing& b) { return a.us_per_step > b.us_per_step; });
    return step;
}

} // namespace moira
