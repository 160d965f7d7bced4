// Steps that ask the host nothing between their layers: the same bits and the same counts as layer by layer.
#include "core/execute/resident_step.hpp"
#include "core/execute/route_probe.hpp"
#include "tests/execute/resident_steps.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

const std::vector<std::string> models{"deepseek_v3", "qwen3_moe"};

/// What was predicted and what was chosen, of everything that predictors are told.
std::vector<std::vector<std::uint64_t>> observations(engine& model) {
    std::vector<std::vector<std::uint64_t>> all;
    while (const auto seen = model.routes()->ring().pop()) {
        all.push_back({seen->step, seen->layer, seen->top_k, seen->left_out, seen->sources});
        all.back().insert(all.back().end(), seen->chosen.begin(), seen->chosen.begin() + seen->top_k);
        for (std::size_t source = 0; source < route_sources; ++source)
            if (seen->has(static_cast<route_source>(source)))
                all.back().insert(all.back().end(), seen->predicted[source].begin(),
                                  seen->predicted[source].begin() + seen->ranks);
    }
    return all;
}

} // namespace

TEST_CASE("with all experts in memory, prefill and decode of 1, 3 and 16 sequences give the bits of layer by layer") {
    for (const auto& plugin : runnable_plugins())
        for (const auto& name : models)
            for (const std::uint32_t threads : {1U, 3U}) {
                CAPTURE(plugin);
                CAPTURE(name);
                test_engine::wanted how;
                how.plugin = plugin;
                how.threads = threads;
                how.options = small_pages();
                auto tested = test_engine::required(golden_folder(name), how);
                load_all(*tested.model);
                for (const std::int32_t sequences : {1, 3, 16})
                    for (const auto& plan : text_of(*tested.model, sequences))
                        CHECK(resident(*tested.model, plan) == layer_by_layer(*tested.model, plan));
            }
}

TEST_CASE("the store counts what a resident step used as if it had been asked layer by layer") {
    for (const auto& name : models) {
        CAPTURE(name);
        test_engine::wanted how;
        how.options = small_pages();
        auto first = test_engine::required(golden_folder(name), how);
        auto second = test_engine::required(golden_folder(name), how);
        load_all(*first.model);
        load_all(*second.model);
        for (const auto& plan : text_of(*first.model, 3)) {
            resident(*first.model, plan);
            layer_by_layer(*second.model, plan);
        }
        const auto a = first.model->experts().statistics(), b = second.model->experts().statistics();
        CHECK(a.hits == b.hits);
        CHECK(a.hits > 0);
        CHECK(a.demand_loads == b.demand_loads);
        CHECK(a.waves == b.waves);
        CHECK(first.model->experts().usage().use_rates == second.model->experts().usage().use_rates);
    }
}

TEST_CASE("a model of which not every expert is in memory goes layer by layer, and a resize changes no bit") {
    for (const auto& name : models) {
        CAPTURE(name);
        test_engine::wanted how;
        how.options = small_pages();
        auto tested = test_engine::required(golden_folder(name), how);
        auto& model = *tested.model;
        const auto plan = batch(model, 1, 0, 3, true);
        const auto expected = outcome_of(model, plan);
        CHECK(model.resident_steps().all() == 0);
        load_all(model);
        CHECK(resident(model, plan) == expected);
        const auto all = model.experts().statistics();
        REQUIRE(model.experts().resize((all.slots_all - 1) * all.slot_bytes));
        CHECK(outcome_of(model, plan) == expected);
        CHECK(model.resident_steps().all() == 1);
        REQUIRE(model.experts().resize(all.slots_all * all.slot_bytes));
        load_all(model);
        CHECK(resident(model, plan) == expected);
    }
}

TEST_CASE("whoever wants to see or change what routers choose gets it, layer by layer") {
    test_engine::wanted how;
    how.options = small_pages();
    auto observed = test_engine::required(golden_folder("qwen3_moe"), how);
    load_all(*observed.model);
    REQUIRE(logits_of(*observed.model, some_tokens(5), 5)); // with an observer
    CHECK(observed.model->resident_steps().all() == 0);
    how.options.measure_routes = true; // in every step
    auto measured = test_engine::required(golden_folder("qwen3_moe"), how);
    load_all(*measured.model);
    outcome_of(*measured.model, batch(*measured.model, 1, 0, 3, true));
    CHECK(measured.model->resident_steps().all() == 0);
}

TEST_CASE("predictors know from resident steps what they know layer by layer") {
    test_engine::wanted how;
    how.options = small_pages();
    how.options.predict_routes = true;
    auto first = test_engine::required(golden_folder("deepseek_v3"), how);
    auto second = test_engine::required(golden_folder("deepseek_v3"), how);
    load_all(*first.model);
    load_all(*second.model);
    for (const auto& plan : text_of(*first.model, 3))
        CHECK(resident(*first.model, plan) == layer_by_layer(*second.model, plan));
    // A step in which every source is measured, those that go by earlier steps too.
    auto audited = batch(*first.model, 3, 11, 1, false);
    audited.number = route_audit_steps;
    const auto before = first.model->resident_steps().all();
    CHECK(outcome_of(*first.model, audited) == outcome_of(*second.model, audited));
    CHECK(first.model->resident_steps().all() == before);
    const auto known = observations(*first.model);
    CHECK_FALSE(known.empty());
    CHECK(known == observations(*second.model));
}

TEST_CASE("a row that reaches past the step's page table is refused before any graph could read it") {
    test_engine::wanted how;
    how.options = small_pages();
    auto tested = test_engine::required(golden_folder("qwen3_moe"), how);
    load_all(*tested.model);
    auto plan = batch(*tested.model, 2, 5, 1, false);
    plan.page_table.pop_back();
    CHECK(tested.model->run_step(plan).failure);
    CHECK(tested.model->resident_steps().all() == 0);
}
