#include "tools/moira/route_bench.hpp"

#include "core/execute/forced_routes.hpp"
#include "tools/moira/route_bench_replay.hpp"
#include "tools/moira/sequence_places.hpp"

#include <algorithm>
#include <memory>

namespace moira {

namespace {

/// Long enough for some dozen experts, short beside the steps.
constexpr double disk_probe_s = 0.4;

class route_measurement {
public:
    route_measurement(model_room& room, forced_routes& routes, const route_bench_options& options)
        : model_(*room.model), routes_(routes), options_(options),
          places_(model_.limits(), options.warm_up + options.repeat * options.gen_tokens),
          hashes_(static_cast<std::size_t>(options.batch)) {
        model_.override_routes(&routes_);
    }
    route_measurement(const route_measurement&) = delete;
    route_measurement& operator=(const route_measurement&) = delete;
    ~route_measurement() { model_.override_routes(nullptr); }

    bool fits() const {
        const auto tokens = options_.warm_up + options_.repeat * options_.gen_tokens;
        const auto& limits = model_.limits();
        return tokens <= limits.context_max && places_.fits(options_.batch) &&
               options_.batch <= std::min(limits.rows_max, limits.logits_rows_max);
    }

    /// Errors: the step's; cancelled.
    result<void> run(std::int32_t steps, const std::function<bool()>& interrupted) {
        for (std::int32_t step = 0; step < steps; ++step) {
            auto plan = plan_step();
            auto outcome = model_.run_step(plan);
            if (outcome.failure)
                return tl::unexpected(*outcome.failure);
            for (std::size_t row = 0; row < outcome.samples.size(); ++row)
                hashes_[row] = outcome.samples[row].hash;
            routes_.advance();
            ++position_;
            if (interrupted && interrupted())
                return fail(errc::cancelled, "interrupted before all was measured");
        }
        return {};
    }

    std::string hash() const {
        std::vector<std::string> each;
        for (const auto& hash : hashes_)
            each.push_back(hash.hex());
        return combined_hash(each);
    }

private:
    step_plan plan_step() {
        step_plan plan;
        plan.number = static_cast<std::uint64_t>(position_) + 1;
        for (std::int32_t sequence = 0; sequence < options_.batch; ++sequence) {
            const auto tokens =
                bench_prompt(static_cast<std::uint64_t>(sequence) << 32U | static_cast<std::uint32_t>(position_), 1,
                             model_.shape().vocabulary);
            places_.add_rows(plan, sequence, position_, tokens, true);
            plan.samples.back().hash = hashes_[static_cast<std::size_t>(sequence)];
        }
        return plan;
    }

    engine& model_;
    forced_routes& routes_;
    const route_bench_options& options_;
    sequence_places places_;
    std::vector<logits_hash> hashes_;
    std::int32_t position_ = 0;
};

result<void> probe(route_bench_row& row, disk_probe& disk) {
    const auto read = disk.measure(disk_probe_s);
    if (!read)
        return tl::unexpected(read.error());
    row.disk_gb_s.push_back(read->gb_s);
    row.disk_direct = disk.direct();
    return {};
}

result<void> measure_repeats(route_bench_row& row, engine& model, route_measurement& steps, disk_probe& disk,
                             const std::function<bool()>& interrupted, const bench_progress& say) {
    const auto& options = row.options;
    if (say)
        say("batch " + std::to_string(options.batch) + ", warming up");
    if (auto warm = steps.run(options.warm_up, interrupted); !warm)
        return warm;
    if (auto probed = probe(row, disk); !probed)
        return probed;
    row.before = model.expert_statistics();
    for (std::int32_t repeat = 0; repeat < options.repeat; ++repeat) {
        if (say)
            say("batch " + std::to_string(options.batch) + ", repeat " + std::to_string(repeat + 1) + " of " +
                std::to_string(options.repeat));
        const auto begin = bench_clock::now();
        if (auto done = steps.run(options.gen_tokens, interrupted); !done)
            return done;
        const std::chrono::duration<double> elapsed = bench_clock::now() - begin;
        row.decode_tok_s.push_back(options.gen_tokens * options.batch / elapsed.count());
        row.wall_s += elapsed.count();
        row.steps += static_cast<std::uint64_t>(options.gen_tokens);
        row.after = model.expert_statistics();
        if (auto probed = probe(row, disk); !probed)
            return probed;
    }
    return {};
}

} // namespace

route_bounds bounds_of(const route_bench_row& row) {
    route_bounds bounds;
    const double memory = spread_of(row.memory_gb_s).median * 1e9, disk = spread_of(row.disk_gb_s).median * 1e9;
    if (memory <= 0 || disk <= 0 || row.steps == 0)
        return bounds;
    bounds.compute_s = row.step_weight_bytes / memory;
    bounds.load_s = static_cast<double>(row.replayed_loads) * row.source_bytes / static_cast<double>(row.steps) / disk;
    bounds.demand_only_tok_s = row.options.batch / (bounds.compute_s + bounds.load_s);
    bounds.overlap_tok_s = row.options.batch / std::max(bounds.compute_s, bounds.load_s);
    return bounds;
}

result<route_bench_row> measure_routes(model_room& room, const route_trace& trace, disk_probe& disk,
                                       const weight_bytes& weights, const route_bench_options& options,
                                       const std::function<bool()>& interrupted, const bench_progress& progress) {
    engine& model = *room.model;
    std::unique_ptr<trace_predictor> predictor;
    if (!options.predictor.empty()) {
        auto made = make_trace_predictor(options.predictor, trace);
        if (!made)
            return tl::unexpected(made.error());
        predictor = std::move(*made);
    }
    auto routes = forced_routes::create(trace, model.shape(), options.batch, predictor.get());
    if (!routes)
        return tl::unexpected(routes.error());
    routes->settle_hints(options.settle);
    route_measurement steps(room, *routes, options);
    if (!steps.fits())
        return fail(errc::invalid_argument, std::to_string(options.batch) + " sequences of " +
                                                std::to_string(options.warm_up + options.repeat * options.gen_tokens) +
                                                " tokens do not fit the context, the KV cache or a step: lower "
                                                "--batch, --gen-tokens, --repeat or --warm-up");
    route_bench_row row;
    row.options = options;
    row.source_bytes = static_cast<double>(model.expert_source_bytes());
    model.experts().set_prefetch(options.prefetch);
    if (auto done = measure_repeats(row, model, steps, disk, interrupted, progress); !done)
        return tl::unexpected(done.error());
    row.logits_hash = steps.hash();
    row.after.add_regret(model.experts().regret());
    row.lossy = model.lossy();
    const auto replayed = replay_demand(row, trace, model);
    if (!replayed)
        return tl::unexpected(replayed.error());
    row.replayed_hits = replayed->hits;
    row.replayed_loads = replayed->demand_loads;
    auto optimum = replay_optimum(row, trace, model);
    if (!optimum)
        return tl::unexpected(optimum.error());
    row.optimum = std::move(*optimum);
    const double visits = static_cast<double>(replayed->hits + replayed->demand_loads);
    row.step_weight_bytes =
        bytes_per_token(weights, options.batch, visits / static_cast<double>(row.steps)) * options.batch;
    if (!predictor)
        return row;
    auto expected = replay_prefetch(row, trace, model, weights);
    if (!expected)
        return tl::unexpected(expected.error());
    row.expected = std::move(*expected);
    return row;
}

} // namespace moira
