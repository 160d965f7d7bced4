#include "tools/moira/op_bench.hpp"

#include "tools/moira/packing_speed.hpp"
#include "tools/moira/sequence_places.hpp"
#include "tools/moira/step_rounds.hpp"

#include <algorithm>

namespace moira {

namespace {

class op_measurement {
public:
    op_measurement(model_room& room, memory_probe& probe, const op_bench_options& options,
                   const std::function<bool()>& interrupted, const bench_progress& progress)
        : model_(*room.model), pool_(*room.pool), probe_(probe), options_(options), interrupted_(interrupted),
          progress_(progress), context_(std::min(options.context, model_.limits().context_max - 1)),
          decode_places_(model_.limits(), context_ + 1) {}

    result<op_bench> run();

private:
    result<void> prepare();
    result<void> run_round(std::int32_t round);
    result<void> run_size(step_rounds& size, std::int32_t round);
    step_plan decode_plan(std::int32_t rows);
    step_plan prefill_plan(std::int32_t rows, bool sample);
    bool stopped() const { return interrupted_ && interrupted_(); }

    engine& model_;
    compute_pool& pool_;
    memory_probe& probe_;
    const op_bench_options& options_;
    const std::function<bool()>& interrupted_;
    const bench_progress& progress_;
    std::int32_t context_;
    sequence_places decode_places_;
    std::vector<step_rounds> sizes_;
    std::uint64_t tokens_taken_ = 0;
    op_bench found_;
};

/// Other tokens at every call: nothing that a step reads stays in a cache because the last one read it.
std::vector<token_id> next_tokens(std::uint64_t& taken, std::int32_t count, std::int32_t vocabulary) {
    return bench_prompt(taken++, count, vocabulary);
}

step_plan op_measurement::decode_plan(std::int32_t rows) {
    step_plan plan;
    for (std::int32_t sequence = 0; sequence < rows; ++sequence)
        decode_places_.add_rows(plan, sequence, context_, next_tokens(tokens_taken_, 1, model_.shape().vocabulary),
                                true);
    return plan;
}

step_plan op_measurement::prefill_plan(std::int32_t rows, bool sample) {
    // One prompt where the context holds it, else several.
    const auto& limits = model_.limits();
    const auto each = std::min(rows, limits.context_max);
    const sequence_places places(limits, each);
    step_plan plan;
    for (std::int32_t sequence = 0; plan.rows() < rows && places.fits(sequence + 1); ++sequence) {
        const auto count = std::min(each, rows - plan.rows());
        places.add_rows(plan, sequence, 0, next_tokens(tokens_taken_, count, model_.shape().vocabulary), sample);
    }
    return plan;
}

result<void> op_measurement::prepare() {
    const auto& limits = model_.limits();
    for (const auto rows : options_.decode_rows) {
        if (!decode_places_.fits(rows) || rows > std::min(limits.rows_max, limits.logits_rows_max))
            return fail(errc::invalid_argument, "steps of " + std::to_string(rows) +
                                                    " rows do not fit the KV cache or a step: raise context.kv_budget "
                                                    "or batch.max_step_tokens, or lower --batch");
        sizes_.emplace_back(rows, false);
    }
    sizes_.emplace_back(std::min(options_.prefill_rows, limits.rows_max), true);
    // Fills the caches of keys and values, and loads experts: enough tokens that nearly every one is chosen.
    const auto sequences = *std::max_element(options_.decode_rows.begin(), options_.decode_rows.end());
    for (std::int32_t sequence = 0; sequence < sequences; ++sequence)
        for (std::int32_t first = 0; first < context_; first += limits.rows_max) {
            const auto count = std::min(limits.rows_max, context_ - first);
            step_plan plan;
            decode_places_.add_rows(plan, sequence, first, next_tokens(tokens_taken_, count, model_.shape().vocabulary),
                                    false);
            if (auto outcome = model_.run_step(plan); outcome.failure)
                return tl::unexpected(*outcome.failure);
            if (stopped())
                return fail(errc::cancelled, "interrupted before all was measured");
        }
    return {};
}

result<void> op_measurement::run_size(step_rounds& size, std::int32_t round) {
    if (progress_)
        progress_("ops, " + std::to_string(size.rows()) + (size.rows() == 1 ? " row" : " rows") + ", round " +
                  std::to_string(round + 1) + " of " + std::to_string(options_.repeat));
    // Long enough for a median, short enough that the probes stand beside the steps.
    constexpr double seconds_min = 0.3;
    constexpr int pairs_min = 3, pairs_max = 200;
    const auto start = bench_clock::now();
    for (int pair = 0; pair < pairs_max; ++pair) {
        const std::chrono::duration<double> elapsed = bench_clock::now() - start;
        if (pair >= pairs_min && elapsed.count() > seconds_min)
            break;
        for (const bool watched : {false, true}) {
            const auto plan = size.prefill() ? prefill_plan(size.rows(), true) : decode_plan(size.rows());
            if (auto done = size.run(model_, plan, watched); !done)
                return done;
            if (stopped())
                return fail(errc::cancelled, "interrupted before all was measured");
        }
    }
    return {};
}

result<void> op_measurement::run_round(std::int32_t round) {
    for (auto& size : sizes_) {
        size.begin_round();
        if (auto done = run_size(size, round); !done)
            return done;
    }
    return {};
}

result<op_bench> op_measurement::run() {
    if (auto ready = prepare(); !ready)
        return tl::unexpected(ready.error());
    const auto look = [this] {
        found_.probe_gb_s.push_back(probe_.measure().gb_s);
        found_.peaks.push_back(measure_flop_peaks(pool_));
    };
    look();
    for (std::int32_t round = 0; round < options_.repeat; ++round) {
        if (auto done = run_round(round); !done)
            return tl::unexpected(done.error());
        look();
    }
    for (const auto& size : sizes_)
        found_.steps.push_back(size.summary(found_.probe_gb_s, found_.peaks));
    auto packing = measure_packing(model_, sizes_.front().expert_provider());
    if (!packing)
        return tl::unexpected(packing.error());
    found_.packing = *packing;
    return std::move(found_);
}

} // namespace

result<op_bench> measure_ops(model_room& room, memory_probe& probe, const op_bench_options& options,
                             const std::function<bool()>& interrupted, const bench_progress& progress) {
    return op_measurement(room, probe, options, interrupted, progress).run();
}

} // namespace moira
