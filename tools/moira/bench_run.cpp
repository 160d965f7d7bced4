#include "tools/moira/bench_run.hpp"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace moira {

namespace {

/// Arrivals of a batch, written by the runtime's thread and read by the caller's. Shared with the callbacks, which may
/// outlive an interrupted run.
class batch_record {
public:
    explicit batch_record(std::size_t sequences) : arrivals_(sequences), results_(sequences) {}

    void note(std::size_t sequence, const output_event& event) {
        const auto now = bench_clock::now();
        const std::lock_guard held(lock_);
        if (arrivals_[sequence].empty() && !event.tokens.empty())
            ++started_;
        arrivals_[sequence].insert(arrivals_[sequence].end(), event.tokens.size(), now);
        if (!event.finished)
            return;
        results_[sequence] = *event.finished;
        ++ended_;
        changed_.notify_all();
    }

    /// True when all have ended.
    bool wait_for(std::chrono::microseconds patience) {
        std::unique_lock held(lock_);
        return changed_.wait_for(held, patience, [this] { return ended_ == results_.size(); });
    }

    /// Every prompt is done and no sequence has ended.
    bool all_decoding() {
        const std::lock_guard held(lock_);
        return started_ == results_.size() && ended_ == 0;
    }

    // After all have ended:
    const std::vector<token_arrivals>& arrivals() const noexcept { return arrivals_; }
    const std::vector<std::optional<generation_result>>& results() const noexcept { return results_; }

private:
    std::mutex lock_;
    std::condition_variable changed_;
    std::vector<token_arrivals> arrivals_;
    std::vector<std::optional<generation_result>> results_;
    std::size_t started_ = 0, ended_ = 0;
};

struct batch_run {
    batch_speed speed;
    std::vector<std::string> hashes;
    std::vector<double> itl_ms;
};

result<batch_run> summarize_run(bench_clock::time_point start, const batch_record& record, std::int32_t gen_tokens) {
    batch_run run;
    for (const auto& outcome : record.results()) {
        if (outcome->failure)
            return tl::unexpected(*outcome->failure);
        if (outcome->reason == finish_reason::cancelled)
            return fail(errc::cancelled, "interrupted before all was measured");
        if (outcome->completion_tokens != gen_tokens)
            return fail(errc::internal, "a sequence ended after " + std::to_string(outcome->completion_tokens) +
                                            " of " + std::to_string(gen_tokens) + " tokens");
        run.hashes.push_back(outcome->logits_hash);
        run.itl_ms.insert(run.itl_ms.end(), outcome->itl_ms.begin(), outcome->itl_ms.end());
    }
    run.speed = speed_of(start, record.arrivals());
    return run;
}

generation_input input_of(const bench_row_options& options, std::size_t index, std::int32_t vocabulary) {
    generation_input input;
    input.ids = bench_prompt(index, options.prompt_tokens, vocabulary);
    input.max_tokens = options.gen_tokens;
    input.temperature = 0.0;
    input.top_k = 0;
    input.top_p = 1.0;
    input.min_p = 0.0;
    input.repetition_penalty = 1.0;
    input.ignore_eos = true;
    return input;
}

/// Runs one batch to its end. `look` is called every `interval` while all sequences decode.
result<batch_run> run_batch(local_runtime& runtime, const bench_row_options& options,
                            const std::function<bool()>& interrupted, std::chrono::microseconds interval,
                            const std::function<void()>& look = {}) {
    const auto count = static_cast<std::size_t>(options.batch);
    std::vector<generation_input> inputs;
    for (std::size_t i = 0; i < count; ++i)
        inputs.push_back(input_of(options, i, runtime.identity().vocabulary));
    auto record = std::make_shared<batch_record>(count);
    std::vector<std::uint64_t> numbers;
    const auto start = bench_clock::now();
    for (std::size_t i = 0; i < count; ++i)
        numbers.push_back(
            runtime.submit(std::move(inputs[i]), [record, i](const output_event& event) { record->note(i, event); }));
    bool cancelled = false;
    while (!record->wait_for(interval)) {
        if (look && record->all_decoding())
            look();
        if (!cancelled && interrupted && interrupted()) {
            cancelled = true;
            for (const auto number : numbers)
                runtime.cancel(number);
        }
    }
    return summarize_run(start, *record, options.gen_tokens);
}

std::uint64_t acquired(const expert_store_statistics& experts) {
    return experts.hits + experts.demand_loads;
}

/// The run that is not counted; fills what is known of experts per step.
result<void> warm_up(local_runtime& runtime, const bench_model& model, bench_row& row,
                     const std::function<bool()>& interrupted) {
    // Often enough to meet every step of even a small model near its beginning.
    constexpr auto interval = std::chrono::microseconds(100);
    std::map<std::uint64_t, std::uint64_t> looks;
    const auto look = [&] {
        const auto now = runtime.statistics();
        if (!now)
            return;
        const auto [place, added] = looks.emplace(now->batch.steps, acquired(now->experts));
        if (!added)
            place->second = std::min(place->second, acquired(now->experts));
    };
    auto run = run_batch(runtime, row.options, interrupted, interval, look);
    if (!run)
        return tl::unexpected(run.error());
    row.sequence_hashes = std::move(run->hashes);
    row.experts_per_step = experts_per_step(looks);
    row.experts_measured = row.experts_per_step > 0 || model.moe_layers == 0;
    return {};
}

void add_run(bench_row& row, const batch_run& run) {
    const double prompt_tokens = static_cast<double>(row.options.prompt_tokens) * row.options.batch;
    const auto& speed = run.speed;
    row.prefill_tok_s.push_back(speed.prefill_s > 0 ? prompt_tokens / speed.prefill_s : 0);
    row.decode_tok_s.push_back(speed.decode_s > 0 ? static_cast<double>(speed.decode_tokens) / speed.decode_s : 0);
    row.itl_ms.insert(row.itl_ms.end(), run.itl_ms.begin(), run.itl_ms.end());
    row.whole_batch = row.whole_batch && speed.whole_batch;
    if (speed.decode_steps > 0)
        row.rows_per_step = static_cast<double>(speed.decode_tokens) / static_cast<double>(speed.decode_steps);
    row.hashes_equal = row.hashes_equal && run.hashes == row.sequence_hashes;
}

void add_probe(bench_row& row, memory_probe& probe) {
    auto reading = probe.measure();
    if (row.probe_gb_s.empty() || reading.gb_s > *std::max_element(row.probe_gb_s.begin(), row.probe_gb_s.end()))
        row.probe_kernel = reading.kernel;
    row.probe_gb_s.push_back(reading.gb_s);
}

result<runtime_statistics> statistics_of(local_runtime& runtime) {
    if (auto now = runtime.statistics())
        return std::move(*now);
    return fail(errc::internal, "the runtime has ended");
}

void finish_row(bench_row& row, const bench_model& model, const runtime_statistics& before) {
    const auto& after = row.after;
    row.steps = after.batch.steps - before.batch.steps;
    row.hits = after.experts.hits - before.experts.hits;
    row.demand_loads = after.experts.demand_loads - before.experts.demand_loads;
    row.demand_bytes = after.experts.demand_bytes - before.experts.demand_bytes;
    if (!row.experts_measured)
        row.experts_per_step =
            model.moe_layers * distinct_experts_expected(model.experts, model.top_k, row.rows_per_step);
    row.bytes_per_token = bytes_per_token(model.weights, row.rows_per_step, row.experts_per_step);
}

} // namespace

result<bench_row> measure_row(local_runtime& runtime, memory_probe& probe, const bench_model& model,
                              const bench_row_options& options, const std::function<bool()>& interrupted,
                              const bench_progress& progress) {
    // Only the question about Ctrl-C: the end of the batch wakes the caller by itself.
    constexpr auto patience = std::chrono::milliseconds(50);
    const auto say = [&](const std::string& what) {
        if (progress)
            progress("batch " + std::to_string(options.batch) + ", " + what);
    };
    bench_row row;
    row.options = options;
    say("warming up");
    if (auto warm = warm_up(runtime, model, row, interrupted); !warm)
        return tl::unexpected(warm.error());
    auto before = statistics_of(runtime);
    if (!before)
        return tl::unexpected(before.error());
    add_probe(row, probe);
    for (std::int32_t i = 0; i < options.repeat; ++i) {
        say("repeat " + std::to_string(i + 1) + " of " + std::to_string(options.repeat));
        auto run = run_batch(runtime, options, interrupted, patience);
        if (!run)
            return tl::unexpected(run.error());
        add_run(row, *run);
        add_probe(row, probe);
    }
    auto after = statistics_of(runtime);
    if (!after)
        return tl::unexpected(after.error());
    row.after = std::move(*after);
    finish_row(row, model, *before);
    return row;
}

} // namespace moira
