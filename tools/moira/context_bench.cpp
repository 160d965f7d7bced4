#include "tools/moira/context_bench.hpp"

#include "core/execute/kv_type.hpp"
#include "tools/moira/step_rounds.hpp"

#include <algorithm>
#include <charconv>

namespace moira {

namespace {

/// A decoding step of one sequence alone in the cache, with `context` tokens before its row.
step_plan decode_plan(const engine& model, std::int32_t context, token_id token) {
    const auto& limits = model.limits();
    step_plan plan;
    plan.sequences = 1;
    for (std::int32_t page = 0; page * limits.page_tokens <= context; ++page)
        plan.page_table.push_back(page);
    plan.tokens.push_back(token);
    plan.positions.push_back(context);
    plan.slots.push_back(context); // pages 0, 1, 2, ... in order
    plan.attention_rows.push_back({context, context + 1, 0, -1});
    sample_request wanted;
    wanted.position = context + 1;
    plan.samples.push_back(wanted);
    return plan;
}

result<void> check_contexts(const engine& model, const std::vector<std::int32_t>& contexts) {
    const auto longest = *std::max_element(contexts.begin(), contexts.end());
    if (longest < model.limits().context_max)
        return {};
    return fail(errc::prompt_too_long, "a context of " + std::to_string(longest) +
                                           " tokens and one more do not fit the model's " +
                                           std::to_string(model.limits().context_max) +
                                           ": raise context.max_tokens, or take a model with a longer context (moira "
                                           "synth --context)");
}

class context_measurement {
public:
    context_measurement(model_room& room, memory_probe& probe, const std::vector<std::int32_t>& contexts,
                        const std::function<bool()>& interrupted, const bench_progress& progress)
        : model_(*room.model), pool_(*room.pool), probe_(probe), contexts_(contexts), interrupted_(interrupted),
          progress_(progress) {}

    result<context_bench> run(std::int32_t repeat);

private:
    result<void> load_experts();
    void look();
    result<void> run_size(std::size_t index, const std::string& where);

    engine& model_;
    compute_pool& pool_;
    memory_probe& probe_;
    const std::vector<std::int32_t>& contexts_;
    const std::function<bool()>& interrupted_;
    const bench_progress& progress_;
    std::vector<step_rounds> sizes_;
    std::uint64_t tokens_taken_ = 0;
    context_bench found_;
};

/// Steps that wait for experts do not count: a prompt's rows choose nearly every one of them.
result<void> context_measurement::load_experts() {
    const auto& limits = model_.limits();
    const auto rows = std::min(limits.rows_max, limits.context_max);
    auto plan = plan_prompt_rows(bench_prompt(tokens_taken_++, rows, model_.shape().vocabulary), 0, rows, limits);
    plan.samples.erase(plan.samples.begin(), plan.samples.end() - 1);
    if (auto outcome = model_.run_step(plan); outcome.failure)
        return tl::unexpected(*outcome.failure);
    return {};
}

void context_measurement::look() {
    found_.probe_gb_s.push_back(probe_.measure().gb_s);
    found_.peaks.push_back(measure_flop_peaks(pool_));
}

result<void> context_measurement::run_size(std::size_t index, const std::string& where) {
    // As in measure_ops: long enough for a median, short enough that the probes stand beside the steps.
    constexpr double seconds_min = 0.3;
    constexpr int pairs_min = 3, pairs_max = 200;
    if (progress_)
        progress_("context " + std::to_string(contexts_[index]) + ", " + where);
    const auto start = bench_clock::now();
    for (int pair = 0; pair < pairs_max; ++pair) {
        const std::chrono::duration<double> elapsed = bench_clock::now() - start;
        if (pair >= pairs_min && elapsed.count() > seconds_min)
            break;
        for (const bool watched : {false, true}) {
            const auto token = bench_prompt(tokens_taken_++, 1, model_.shape().vocabulary).front();
            if (auto done = sizes_[index].run(model_, decode_plan(model_, contexts_[index], token), watched); !done)
                return done;
            if (interrupted_ && interrupted_())
                return fail(errc::cancelled, "interrupted before all was measured");
        }
    }
    return {};
}

result<context_bench> context_measurement::run(std::int32_t repeat) {
    if (auto fits = check_contexts(model_, contexts_); !fits)
        return tl::unexpected(fits.error());
    if (auto loaded = load_experts(); !loaded)
        return tl::unexpected(loaded.error());
    if (auto filled = model_.fill_cache(); !filled)
        return tl::unexpected(filled.error());
    sizes_.assign(contexts_.size(), step_rounds(1, false));
    look();
    for (std::int32_t round = 0; round < repeat; ++round) {
        for (std::size_t index = 0; index < contexts_.size(); ++index) {
            sizes_[index].begin_round();
            const auto where = "round " + std::to_string(round + 1) + " of " + std::to_string(repeat);
            if (auto done = run_size(index, where); !done)
                return tl::unexpected(done.error());
        }
        look();
    }
    const auto& limits = model_.limits();
    const auto token_bytes =
        kv_page_bytes(model_.shape(), limits, model_.shape().layers) / static_cast<std::uint64_t>(limits.page_tokens);
    for (std::size_t index = 0; index < contexts_.size(); ++index)
        found_.rows.push_back({contexts_[index], token_bytes * static_cast<std::uint64_t>(contexts_[index]),
                               sizes_[index].summary(found_.probe_gb_s, found_.peaks)});
    found_.kv_type = kv_type_name(limits.kv_type);
    found_.kv_bytes = model_.kv_bytes();
    return std::move(found_);
}

} // namespace

result<std::vector<std::int32_t>> parse_contexts(const std::string& text) {
    constexpr std::int32_t context_max = 1 << 24;
    constexpr std::size_t contexts_max = 16;
    std::vector<std::int32_t> contexts;
    for (std::size_t begin = 0; begin <= text.size() && contexts.size() <= contexts_max;) {
        const auto end = std::min(text.find(',', begin), text.size());
        std::int32_t value = 0;
        const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, value);
        if (error != std::errc() || stop != text.data() + end || value < 1 || value > context_max)
            return fail(errc::invalid_argument, "--context is \"" + text + "\", expected numbers of tokens from 1 to " +
                                                    std::to_string(context_max) + " such as 8192,131072");
        contexts.push_back(value);
        begin = end + 1;
    }
    if (contexts.size() > contexts_max)
        return fail(errc::invalid_argument, "--context has more than " + std::to_string(contexts_max) + " lengths");
    return contexts;
}

result<context_bench> measure_contexts(model_room& room, memory_probe& probe, const std::vector<std::int32_t>& contexts,
                                       std::int32_t repeat, const std::function<bool()>& interrupted,
                                       const bench_progress& progress) {
    return context_measurement(room, probe, contexts, interrupted, progress).run(repeat);
}

} // namespace moira
