// Steps whose experts a recording chooses: the store counts what the simulator says, and no logit depends on the slots.
#include "core/execute/forced_routes.hpp"
#include "core/route/scripted_predictor.hpp"
#include "core/simulate/store_replay.hpp"
#include "tests/execute/test_engine.hpp"

#include <doctest/doctest.h>
#include <random>

using namespace moira;

namespace {

/// Three sequences of unequal length with distinct experts per token, skewed so that a cache hits now and then.
route_trace some_trace(const model_shape& shape) {
    std::mt19937 random(17);
    route_trace trace;
    trace.experts = static_cast<std::uint32_t>(shape.moe.experts);
    trace.top_k = static_cast<std::uint32_t>(shape.moe.top_k);
    for (std::size_t layer = 0; layer < shape.layer_is_moe.size(); ++layer)
        if (shape.layer_is_moe[layer])
            trace.layer_numbers.push_back(static_cast<std::uint16_t>(layer));
    trace.layers = static_cast<std::uint32_t>(trace.layer_numbers.size());
    for (const std::uint32_t tokens : {7U, 11U, 5U}) {
        route_sequence sequence;
        sequence.tokens = tokens;
        for (std::uint32_t choice = 0; choice < tokens * trace.layers; ++choice) {
            std::vector<std::uint16_t> ids(trace.experts);
            for (std::uint32_t expert = 0; expert < trace.experts; ++expert)
                ids[expert] = static_cast<std::uint16_t>(expert);
            for (std::uint32_t rank = 0; rank < trace.top_k; ++rank)
                std::swap(ids[rank], ids[rank + std::min(random(), random()) % (trace.experts - rank)]);
            sequence.ids.insert(sequence.ids.end(), ids.begin(), ids.begin() + trace.top_k);
            sequence.weights.insert(sequence.weights.end(), trace.top_k, 1.0F / static_cast<float>(trace.top_k));
        }
        trace.sequences.push_back(std::move(sequence));
    }
    return trace;
}

step_plan decode_step(std::int32_t rows, std::int32_t position, const execution_limits& limits) {
    constexpr std::int32_t pages = 4;
    step_plan plan;
    plan.number = static_cast<std::uint64_t>(position) + 1;
    plan.sequences = rows;
    for (std::int32_t row = 0; row < rows; ++row) {
        for (std::int32_t page = 0; page < pages; ++page)
            plan.page_table.push_back(row * pages + page);
        plan.tokens.push_back((row * 31 + position * 7) % 200);
        plan.positions.push_back(position);
        plan.slots.push_back(row * pages * limits.page_tokens + position);
        plan.attention_rows.push_back({position, position + 1, row * pages, -1});
        sample_request sample;
        sample.row = row;
        sample.position = position + 1;
        plan.samples.push_back(sample);
    }
    return plan;
}

struct played {
    std::vector<std::uint64_t> hashes;
    expert_store_statistics counted;
};

played play(const std::filesystem::path& folder, const engine_options& options, std::int32_t rows, std::int32_t steps,
            const std::string& accuracy = "", prefetch_mode mode = prefetch_mode::off, bool settle = false) {
    test_engine::wanted how;
    how.options = options;
    const auto opened = test_engine::required(folder, how);
    engine& model = *opened.model;
    const auto trace = some_trace(model.shape());
    const auto parsed = parse_scripted(accuracy);
    REQUIRE(parsed);
    scripted_predictor predictor(trace, *parsed);
    auto routes = forced_routes::create(trace, model.shape(), rows, mode == prefetch_mode::off ? nullptr : &predictor);
    REQUIRE_MESSAGE(routes, routes.error().message);
    routes->settle_hints(settle);
    prefetch_policy policy;
    policy.mode = mode;
    model.experts().set_prefetch(policy);
    model.override_routes(&*routes);
    played outcome;
    for (std::int32_t step = 0; step < steps; ++step) {
        const auto done = model.run_step(decode_step(rows, step, model.limits()));
        REQUIRE_FALSE(done.failure);
        for (const auto& sample : done.samples)
            outcome.hashes.push_back(sample.hash.value());
        routes->advance();
    }
    outcome.counted = model.expert_statistics();
    return outcome;
}

/// With an accuracy: also hints, each of which there is time to load.
replay_counts simulate(const model_shape& shape, const expert_store_statistics& store, std::int32_t rows,
                       std::int32_t steps, const std::optional<std::string>& accuracy = {}) {
    const auto trace = some_trace(shape);
    walk_options side_by_side;
    side_by_side.batch = static_cast<std::uint32_t>(rows);
    side_by_side.repeat = true;
    side_by_side.steps_max = static_cast<std::uint64_t>(steps) + 1; // the last step hints at the one behind it
    const auto walk = expert_walk::create(trace, side_by_side);
    REQUIRE(walk);
    replay_options options;
    options.slots = static_cast<slot_index>(store.slots);
    options.model_layers = shape.layers;
    options.steps_max = static_cast<std::uint64_t>(steps);
    const auto policy = make_eviction_policy(store.bypass ? "lru" : store.policy,
                                             {shape.layers, shape.moe.experts, shape.moe_layers()});
    REQUIRE(policy);
    const auto parsed = parse_scripted(accuracy.value_or(""));
    REQUIRE(parsed);
    scripted_predictor predictor(trace, *parsed);
    if (accuracy) {
        options.prefetch.mode = prefetch_mode::always;
        options.layers_ahead = forced_routes::layers_ahead(trace);
        replay_geometry geometry{.memory_gb_s = 1e-9, .disk_gb_s = 1e6};
        geometry.expert_bytes.assign(trace.layers, 1);
        geometry.dense_bytes.assign(trace.layers, 1);
        options.geometry = geometry;
        options.travelling_max = 4;
    }
    const auto counts = replay_store(*walk, options, **policy, accuracy ? &predictor : nullptr);
    REQUIRE(counts);
    return *counts;
}

/// Within 2 %, or one where that is less.
bool agree(std::uint64_t engine, std::uint64_t simulated) {
    const auto apart = engine > simulated ? engine - simulated : simulated - engine;
    return apart <= std::max<std::uint64_t>(1, simulated / 50);
}

} // namespace

TEST_CASE("demand under a recorded routing is counted by engine and simulator alike") {
    constexpr std::int32_t steps = 20;
    const auto folder = golden_folder("qwen3_moe");
    const auto whole = test_engine::required(folder, {});
    const auto& shape = whole.model->shape();
    const auto all = static_cast<std::uint64_t>(shape.moe_layers()) * static_cast<std::uint64_t>(shape.moe.experts);
    const auto floor = static_cast<std::uint64_t>(shape.moe_layers()) * static_cast<std::uint64_t>(shape.moe.top_k);
    for (const std::int32_t rows : {1, 3}) {
        std::vector<std::uint64_t> hashes;
        for (const std::uint64_t slots : {all, all / 2, floor, static_cast<std::uint64_t>(shape.moe.top_k)}) {
            CAPTURE(rows);
            CAPTURE(slots);
            const auto run = play(folder, options_with_slots(slots, whole.model->slab_bytes()), rows, steps);
            REQUIRE(run.counted.slots >= slots);
            const auto simulated = simulate(shape, run.counted, rows, steps);
            CHECK(run.counted.hits == simulated.hits);
            CHECK(run.counted.demand_loads == simulated.demand_loads);
            CHECK(run.counted.evictions == simulated.evictions);
            CHECK(run.counted.waves == simulated.waves);
            if (hashes.empty())
                hashes = run.hashes;
            CHECK(run.hashes == hashes);
        }
    }
}

TEST_CASE("prefetching under a recorded routing changes no logit, and its accounts add up") {
    constexpr std::int32_t steps = 20;
    const auto folder = golden_folder("qwen3_moe");
    const auto whole = test_engine::required(folder, {});
    const auto& shape = whole.model->shape();
    const auto slots = static_cast<std::uint64_t>(shape.moe_layers()) * static_cast<std::uint64_t>(shape.moe.top_k) * 2;
    auto options = options_with_slots(slots, whole.model->slab_bytes());
    const auto plain = play(folder, options, 2, steps);
    for (const std::string accuracy : {"", "recall=0.7,precision=0.5,seed=3"}) {
        CAPTURE(accuracy);
        const auto run = play(folder, options, 2, steps, accuracy, prefetch_mode::always);
        CHECK(run.hashes == plain.hashes);
        const auto& now = run.counted;
        CHECK(now.hits + now.demand_loads == plain.counted.hits + plain.counted.demand_loads);
        CHECK(now.hints.given == now.hints.refused + now.hints.cancelled + now.hints_waiting + now.prefetch_loads);
        CHECK(now.prefetch_loads == now.prefetch_useful + now.prefetch_wasted + now.prefetch_open);
        CHECK(now.hints.given > 0);
    }
}

TEST_CASE("with time for every hint, engine and simulator count what prefetching does within 2 %") {
    constexpr std::int32_t steps = 60;
    const auto folder = golden_folder("qwen3_moe");
    const auto whole = test_engine::required(folder, {});
    const auto& shape = whole.model->shape();
    const auto all = static_cast<std::uint64_t>(shape.moe_layers()) * static_cast<std::uint64_t>(shape.moe.experts);
    for (const std::int32_t rows : {1, 4})
        for (const std::uint64_t slots : {all / 8, all / 4, all * 3 / 8, all / 2, all * 3 / 4})
            for (const std::string accuracy : {"", "recall=0.85,precision=0.85,seed=1", "recall=0.7,precision=0.5"}) {
                CAPTURE(rows);
                CAPTURE(slots);
                CAPTURE(accuracy);
                auto options = options_with_slots(slots, whole.model->slab_bytes());
                options.predict_routes = true; // predicts what the routers choose, so its hints would be of no use
                const auto run = play(folder, options, rows, steps, accuracy, prefetch_mode::always, true);
                const auto simulated = simulate(shape, run.counted, rows, steps, accuracy);
                CAPTURE(run.counted.demand_loads);
                CAPTURE(simulated.demand_loads);
                CHECK(agree(run.counted.demand_loads, simulated.demand_loads));
                CAPTURE(run.counted.prefetch_loads);
                CAPTURE(simulated.prefetch_loads);
                CHECK(agree(run.counted.prefetch_loads, simulated.prefetch_loads));
                CHECK(agree(run.counted.prefetch_useful, simulated.prefetch_useful));
                CHECK(agree(run.counted.prefetch_wasted, simulated.prefetch_wasted));
            }
}

TEST_CASE("a recording of another model is refused") {
    const auto opened = test_engine::required(golden_folder("qwen3_moe"), {});
    const auto& shape = opened.model->shape();
    const auto right = some_trace(shape);
    CHECK(forced_routes::create(right, shape, 1, nullptr));
    auto wrong = right;
    ++wrong.experts;
    CHECK(forced_routes::create(wrong, shape, 1, nullptr).error().code == errc::invalid_argument);
    wrong = right;
    wrong.sequences.clear();
    CHECK(forced_routes::create(wrong, shape, 1, nullptr).error().code == errc::invalid_argument);
    CHECK(forced_routes::create(right, shape, 0, nullptr).error().code == errc::invalid_argument);
}
