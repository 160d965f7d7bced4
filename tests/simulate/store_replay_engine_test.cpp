// The contract of the simulator: its counters are those of a real store.
#include "core/experts/expert_visit.hpp"
#include "core/simulate/store_replay.hpp"
#include "tests/experts/fake_slab_source.hpp"
#include "tests/simulate/small_traces.hpp"

#include <doctest/doctest.h>
#include <thread>

using namespace moira;

namespace {

const eviction_dimensions dimensions{.layers = 5, .experts = 16, .moe_layers = 4};

route_trace recorded(std::uint64_t seed) {
    return small_trace(
        {.layers = 4, .experts = 16, .top_k = 3, .sequences = 9, .tokens = 30, .layer_numbers = {1, 2, 3, 4}}, seed);
}

std::unique_ptr<expert_store> make_store(slab_source& source, std::uint64_t slots, std::string_view policy) {
    auto made = make_eviction_policy(policy, dimensions);
    REQUIRE(made);
    expert_store_options options;
    options.layers = dimensions.layers;
    options.moe_layers = dimensions.moe_layers;
    options.experts = dimensions.experts;
    options.top_k = 3;
    options.slab_bytes = source.slab_bytes();
    options.budget_bytes = slots * source.slab_bytes();
    auto store = expert_store::create(options, source, std::move(*made));
    REQUIRE(store);
    return std::move(*store);
}

/// Until every load that was begun or hinted at is over: whatever was loaded is here or was evicted.
void settle(const expert_store& store) {
    while (true) {
        const auto now = store.statistics();
        if (now.hints_waiting == 0 && now.demand_loads + now.prefetch_loads == now.resident + now.evictions)
            return;
        std::this_thread::yield();
    }
}

/// All rows' predictions of the layer behind this one, as an engine gives them.
void give_hints(expert_store& store, const expert_walk& walk, std::size_t step, std::uint32_t layer,
                trace_predictor& predictor) {
    const auto& trace = walk.trace();
    const auto of_step = step + (layer + 1) / trace.layers;
    const auto next = (layer + 1) % trace.layers;
    if (of_step >= walk.steps())
        return;
    prediction_union all(trace.experts);
    for (const auto at : walk.rows(of_step)) {
        std::vector<predicted_expert> row;
        predictor.predict(at, next, row);
        all.add(row);
    }
    std::vector<expert_hint> hints;
    for (const auto& predicted : all.take())
        hints.push_back({predicted.expert, predicted.probability});
    settle(store);
    store.hint(trace.layer_numbers[next], hints);
    settle(store);
}

/// The same counts for each layer; times are no counts.
void check_layers(const std::vector<layer_statistics>& engine, const std::vector<layer_statistics>& simulated) {
    REQUIRE(engine.size() == simulated.size());
    for (std::size_t layer = 0; layer < engine.size(); ++layer)
        for (const auto counter :
             {&layer_statistics::hits, &layer_statistics::demand_loads, &layer_statistics::loads,
              &layer_statistics::prefetch_loads, &layer_statistics::prefetch_useful, &layer_statistics::prefetch_wasted,
              &layer_statistics::hinted_misses, &layer_statistics::hinted_found})
            CHECK(engine[layer].*counter == simulated[layer].*counter);
}

/// Plays the walk through the store as the layer loop does.
void play(expert_store& store, const expert_walk& walk, trace_predictor* predictor = nullptr) {
    for (std::size_t step = 0; step < walk.steps(); ++step)
        for (std::uint32_t layer = 0; layer < walk.trace().layers; ++layer) {
            const auto wanted = walk.experts(step, layer);
            const std::vector<std::int32_t> experts(wanted.begin(), wanted.end());
            expert_visit visit(store, {walk.trace().layer_numbers[layer], experts});
            bool hinted = false;
            std::size_t named = 0;
            while (!visit.over()) {
                const auto some = visit.next();
                REQUIRE(some);
                named += some->size();
                if (predictor && visit.all_asked() && !hinted)
                    give_hints(store, walk, step, layer, *predictor);
                hinted = visit.all_asked();
            }
            REQUIRE(named == experts.size());
        }
}

} // namespace

TEST_CASE("demand counters of simulator and store are equal: every policy, batch and number of slots") {
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
        const auto trace = recorded(seed);
        for (const std::uint32_t batch : {1U, 4U, 9U}) {
            const auto walk = expert_walk::create(trace, {.batch = batch});
            REQUIRE(walk);
            for (const auto name : eviction_policy_names())
                for (const slot_index slots : {3, 7, 12, 24, 40, 64}) { // top 3; the floor is 12
                    fake_slab_source source(64);
                    const auto store = make_store(source, static_cast<std::uint64_t>(slots), name);
                    play(*store, *walk);
                    const auto engine = store->statistics();
                    auto policy = make_eviction_policy(name, dimensions);
                    REQUIRE(policy);
                    const auto simulated =
                        replay_store(*walk,
                                     {.slots = slots,
                                      .model_layers = dimensions.layers,
                                      .travelling_max = static_cast<std::uint32_t>(store->travelling_max())},
                                     **policy);
                    REQUIRE(simulated);
                    CAPTURE(name);
                    CAPTURE(slots);
                    CAPTURE(batch);
                    CHECK(simulated->hits == engine.hits);
                    CHECK(simulated->demand_loads == engine.demand_loads);
                    CHECK(simulated->evictions == engine.evictions);
                    CHECK(simulated->waves == engine.waves);
                    CHECK(simulated->bypass == engine.bypass);
                    CHECK(simulated->policy == engine.policy);
                    check_layers(engine.layers, simulated->layers);
                }
        }
    }
}

TEST_CASE("with time for every hint, the counters of prefetching are equal too") {
    const auto trace = recorded(3);
    auto predictor = make_trace_predictor("scripted:recall=0.8,precision=0.7,seed=4", trace);
    REQUIRE(predictor);
    // A read takes nothing beside the computation of one expert.
    replay_geometry geometry{.memory_gb_s = 1e-6, .disk_gb_s = 1e6};
    geometry.expert_bytes.assign(4, 1000);
    geometry.dense_bytes.assign(4, 0);
    for (const std::uint32_t batch : {1U, 3U}) {
        const auto walk = expert_walk::create(trace, {.batch = batch});
        REQUIRE(walk);
        for (const auto name : eviction_policy_names())
            for (const slot_index slots : {7, 16, 32, 64}) {
                fake_slab_source source(64);
                const auto store = make_store(source, static_cast<std::uint64_t>(slots), name);
                store->set_prefetch({.mode = prefetch_mode::always});
                play(*store, *walk, predictor->get());
                const auto engine = store->statistics();
                auto policy = make_eviction_policy(name, dimensions);
                REQUIRE(policy);
                const auto simulated = replay_store(*walk,
                                                    {.slots = slots,
                                                     .model_layers = dimensions.layers,
                                                     .prefetch = {.mode = prefetch_mode::always},
                                                     .travelling_max =
                                                         static_cast<std::uint32_t>(store->travelling_max()),
                                                     .geometry = geometry},
                                                    **policy, predictor->get());
                REQUIRE(simulated);
                CAPTURE(name);
                CAPTURE(slots);
                CAPTURE(batch);
                CHECK(simulated->hits == engine.hits);
                CHECK(simulated->demand_loads == engine.demand_loads);
                CHECK(simulated->prefetch_loads == engine.prefetch_loads);
                CHECK(simulated->prefetch_useful == engine.prefetch_useful);
                CHECK(simulated->prefetch_wasted == engine.prefetch_wasted);
                CHECK(simulated->hints.given == engine.hints.given);
                CHECK(simulated->hints.absent == engine.hints.absent);
                CHECK(simulated->hints.absent_chosen == engine.hints.absent_chosen);
                CHECK(simulated->hints.misses == engine.hints.misses);
                check_layers(engine.layers, simulated->layers);
            }
    }
}
