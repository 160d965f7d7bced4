#include "tools/moira/route_bench_replay.hpp"

#include "core/execute/forced_routes.hpp"

#include <algorithm>
#include <memory>

namespace moira {

namespace {

/// The recording as this model's: its n-th layer that routes is the model's n-th layer with experts.
route_trace for_model(route_trace trace, const model_shape& shape) {
    trace.layer_numbers.clear();
    for (std::size_t layer = 0; layer < shape.layer_is_moe.size(); ++layer)
        if (shape.layer_is_moe[layer])
            trace.layer_numbers.push_back(static_cast<std::uint16_t>(layer));
    return trace;
}

replay_options options_of(const route_bench_row& row, engine& model) {
    replay_options options;
    options.slots = static_cast<slot_index>(row.after.slots);
    options.model_layers = model.shape().layers;
    options.travelling_max = static_cast<std::uint32_t>(model.experts().travelling_max());
    options.warm_up_steps = static_cast<std::uint64_t>(row.options.warm_up);
    options.steps_max = options.warm_up_steps + row.steps;
    return options;
}

/// The steps of the bench, warm-up included, and `more` behind them.
result<expert_walk> walk_of(const route_bench_row& row, const route_trace& trace, std::uint64_t more = 0) {
    walk_options side_by_side;
    side_by_side.batch = static_cast<std::uint32_t>(row.options.batch);
    side_by_side.repeat = true;
    side_by_side.steps_max = static_cast<std::uint64_t>(row.options.warm_up) + row.steps + more;
    return expert_walk::create(trace, side_by_side);
}

result<replay_counts> replay(const route_bench_row& row, const route_trace& trace, const model_shape& shape,
                             const replay_options& options, trace_predictor* predictor) {
    // The engine's last step hints at one that nobody runs.
    const auto walk = walk_of(row, trace, 1);
    if (!walk)
        return tl::unexpected(walk.error());
    // A policy that the store replaced below the floor is replaced here too.
    auto policy = make_eviction_policy(row.after.policy == "bypass" ? "lru" : row.after.policy,
                                       {shape.layers, shape.moe.experts, shape.moe_layers()});
    if (!policy)
        return tl::unexpected(policy.error());
    return replay_store(*walk, options, **policy, predictor);
}

/// Reads that are over as soon as anything is computed: 1 byte at the largest speed that is no nonsense.
replay_geometry without_reading(std::uint32_t layers) {
    replay_geometry geometry;
    geometry.expert_bytes.assign(layers, 1);
    geometry.dense_bytes.assign(layers, 1);
    geometry.memory_gb_s = 1e-9; // a second for each
    geometry.disk_gb_s = 1e6;
    return geometry;
}

/// The measured steps' own speeds; none where nothing was computed or read.
std::optional<replay_geometry> measured_geometry(const route_bench_row& row, const weight_bytes& weights,
                                                 std::uint32_t layers) {
    const double compute_s = row.after.compute_s - row.before.compute_s;
    const double busy_s = compute_s + (row.after.step_stall_s - row.before.step_stall_s) -
                          (row.after.link_idle_s - row.before.link_idle_s);
    const auto loads =
        row.after.demand_loads - row.before.demand_loads + row.after.prefetch_loads - row.before.prefetch_loads;
    if (compute_s <= 0 || busy_s <= 0 || loads == 0 || weights.expert == 0)
        return std::nullopt;
    const auto always = weights.dense - std::min(weights.dense, weights.embedding);
    replay_geometry geometry;
    geometry.head_bytes = std::min(always, weights.embedding); // a head is as large as the embedding
    geometry.expert_bytes.assign(layers, weights.expert);
    geometry.dense_bytes.assign(layers, (always - geometry.head_bytes) / layers);
    geometry.memory_gb_s = row.step_weight_bytes * static_cast<double>(row.steps) / compute_s / 1e9;
    geometry.disk_gb_s = static_cast<double>(loads) * static_cast<double>(weights.expert) / busy_s / 1e9;
    geometry.pack_s = row.after.prefetch_measured.cpu_s;
    return geometry;
}

} // namespace

result<replay_counts> replay_demand(const route_bench_row& row, const route_trace& trace, engine& model) {
    return replay(row, for_model(trace, model.shape()), model.shape(), options_of(row, model), nullptr);
}

result<std::optional<optimal_counts>> replay_optimum(const route_bench_row& row, const route_trace& trace,
                                                     engine& model) {
    const auto& shape = model.shape();
    const auto steps = static_cast<double>(row.options.warm_up) + static_cast<double>(row.steps);
    if (steps * row.options.batch * shape.moe_layers() * shape.moe.top_k > optimum_uses_max)
        return std::optional<optimal_counts>();
    const auto walk = walk_of(row, trace);
    if (!walk)
        return tl::unexpected(walk.error());
    return std::optional(
        replay_optimally(*walk, row.after.slots, true, static_cast<std::uint64_t>(row.options.warm_up)));
}

result<route_expectation> replay_prefetch(const route_bench_row& row, const route_trace& trace, engine& model,
                                          const weight_bytes& weights) {
    const auto of_model = for_model(trace, model.shape());
    const auto predictor = make_trace_predictor(row.options.predictor, of_model);
    if (!predictor)
        return tl::unexpected(predictor.error());
    auto options = options_of(row, model);
    options.prefetch = row.options.prefetch;
    options.layers_ahead = forced_routes::layers_ahead(of_model);
    options.geometry =
        row.options.settle ? without_reading(of_model.layers) : measured_geometry(row, weights, of_model.layers);
    if (!options.geometry) // nothing was loaded: then time did not matter
        options.geometry = without_reading(of_model.layers);
    auto counts = replay(row, of_model, model.shape(), options, predictor->get());
    if (!counts)
        return tl::unexpected(counts.error());
    return route_expectation{std::move(*counts), options.geometry->memory_gb_s, options.geometry->disk_gb_s};
}

} // namespace moira
