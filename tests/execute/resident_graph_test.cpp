// Resident steps on a device with graphs: recorded once per number of rows, replayed with the same bits whatever
// happens to the experts in between.
#include "core/execute/resident_step.hpp"
#include "tests/execute/fake_room.hpp"
#include "tests/execute/resident_steps.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

const std::vector<std::string> models{"deepseek_v3", "qwen3_moe"};

std::uint64_t calls_of(const fake_room& room, std::uint32_t kind) {
    std::uint64_t found = 0;
    moira_fake_call call{};
    for (std::uint64_t i = 0; fake_controls().call_at(room.device, i, &call) == 1; ++i)
        found += call.kind == kind ? 1 : 0;
    return found;
}

/// Decode steps of one row each, at ascending positions.
std::vector<std::string> decode(engine& model, std::int32_t sequences, std::int32_t position) {
    return resident(model, batch(model, sequences, position, 1, false));
}

} // namespace

TEST_CASE("a replayed step gives the bits of layer by layer and of the reference, at 1, 3 and 16 sequences") {
    for (const auto& name : models) {
        CAPTURE(name);
        test_engine::wanted how;
        how.options = small_pages();
        auto reference = test_engine::required(golden_folder(name), how);
        const fake_room room;
        const auto model = room.required(name, small_pages());
        load_all(*model);
        for (const std::int32_t sequences : {1, 3, 16})
            for (const auto& plan : text_of(*model, sequences)) {
                const auto expected = outcome_of(*reference.model, plan);
                CHECK(resident(*model, plan) == expected);
                CHECK(layer_by_layer(*model, plan) == expected);
            }
        const auto counts = model->resident_steps();
        // Sizes: 6, 18 and 96 rows of prompts once each, and 1, 3 and 16 rows five times each.
        CHECK(counts.plain == 6);
        CHECK(counts.recorded == 3);
        CHECK(counts.replayed == 9);
        CHECK(counts.graphs_dropped == 0);
    }
}

TEST_CASE("a replayed step is one launch for all layers and one wait, not one per layer") {
    const fake_room room;
    const auto model = room.required("qwen3_moe", small_pages());
    load_all(*model);
    outcome_of(*model, batch(*model, 1, 0, 1, false));
    outcome_of(*model, batch(*model, 1, 1, 1, false));
    fake_controls().clear_calls(room.device);
    decode(*model, 1, 2);
    CHECK(model->resident_steps().replayed == 1);
    CHECK(calls_of(room, MOIRA_FAKE_GRAPH_LAUNCH) == 1);
    CHECK(calls_of(room, MOIRA_FAKE_LAUNCH) == 3);       // embedding, the last norm and the head
    CHECK(calls_of(room, MOIRA_FAKE_SYNCHRONIZE) == 2);  // the plan's arrays, and the logits
    CHECK(calls_of(room, MOIRA_FAKE_COPY_TO_HOST) == 2); // the routers' choices, and the logits
}

TEST_CASE("after experts have left and come back into other slots, the same graph gives the same bits") {
    for (const auto& name : models) {
        CAPTURE(name);
        const fake_room room;
        const auto model = room.required(name, small_pages());
        load_all(*model);
        const auto plan = batch(*model, 3, 0, 1, false);
        const auto expected = layer_by_layer(*model, plan);
        for (int step = 0; step < 3; ++step)
            CHECK(resident(*model, plan) == expected);
        const auto before = model->resident_steps();
        REQUIRE(before.recorded == 1);
        auto& store = model->experts();
        const auto all = store.statistics();
        REQUIRE(store.resize(all.slots_all / 2 * all.slot_bytes));
        CHECK(outcome_of(*model, plan) == expected); // layer by layer: not all are there
        CHECK(model->resident_steps().all() == before.all());
        REQUIRE(store.resize(all.slots_all * all.slot_bytes));
        load_all(*model);
        CHECK(resident(*model, plan) == expected);
        CHECK(model->resident_steps().recorded == 1);
        CHECK(model->resident_steps().replayed == before.replayed + 1);
    }
}

TEST_CASE("of more batch sizes than graphs are kept, the one used longest ago is recorded again") {
    const fake_room room;
    auto options = small_pages();
    options.sequences_max = static_cast<std::int32_t>(graphs_max) + 1;
    const auto model = room.required("qwen3_moe", options);
    load_all(*model);
    for (std::int32_t sequences = 1; sequences <= options.sequences_max; ++sequences)
        for (const std::int32_t position : {0, 1})
            decode(*model, sequences, position);
    CHECK(model->resident_steps().recorded == graphs_max + 1);
    CHECK(model->resident_steps().graphs_dropped == 1);
    decode(*model, 2, 2);
    CHECK(model->resident_steps().replayed == 1);
    decode(*model, 1, 2); // the first of all
    CHECK(model->resident_steps().recorded == graphs_max + 2);
    decode(*model, 2, 3);
    CHECK(model->resident_steps().replayed == 2);
}

TEST_CASE("a step that fails while it is recorded or replayed is reported, and later ones are fine") {
    const auto plan_of = [](const engine& model) { return batch(model, 3, 0, 1, false); };
    const fake_room room;
    const auto model = room.required("deepseek_v3", small_pages());
    load_all(*model);
    const auto expected = layer_by_layer(*model, plan_of(*model));
    for (int step = 0; step < 3; ++step)
        CHECK(resident(*model, plan_of(*model)) == expected);
    // 1: the embedding; 2: the graph; 3, 4: the last norm and the head.
    for (const std::uint32_t nth : {1U, 2U, 3U}) {
        CAPTURE(nth);
        fake_controls().fail_launch(room.device, nth);
        const auto broken = model->run_step(plan_of(*model));
        REQUIRE(broken.failure);
        CHECK(broken.failure->code == errc::device_error);
        CHECK(resident(*model, plan_of(*model)) == expected);
    }
    for (const std::uint32_t op : {MOIRA_OP_EXPERT_GROUPS, MOIRA_OP_EXPERT_FFN, MOIRA_OP_ATTENTION_MLA}) {
        CAPTURE(op);
        fake_controls().inject_error(room.device, op, 2);
        const auto broken = model->run_step(plan_of(*model));
        REQUIRE(broken.failure);
        CHECK(broken.failure->code == errc::device_error);
        CHECK(resident(*model, plan_of(*model)) == expected);
    }
}

TEST_CASE("wherever recording fails, the step runs op by op with the same bits") {
    const fake_room room;
    const auto model = room.required("qwen3_moe", small_pages());
    load_all(*model);
    const auto plan = batch(*model, 2, 0, 1, false);
    const auto expected = resident(*model, plan);
    fake_controls().fail_launch(room.device, 5); // in the first layer
    CHECK(resident(*model, plan) == expected);
    fake_controls().fail_launch(room.device, 0);
    CHECK(model->resident_steps().plain == 2);
    CHECK(model->resident_steps().recorded == 0);
}
