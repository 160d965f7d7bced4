// Steps of more rows than the arena holds, and an embedding table that stays in its file.
#include "tests/execute/test_engine.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

constexpr std::int32_t block_rows = 8; // an eighth of the golden models' vocabulary is more

/// Hash of every row's logits, computed in steps of `chunk` rows.
std::vector<std::uint64_t> hashes_of(engine& model, const std::vector<token_id>& ids, std::int32_t chunk) {
    std::vector<std::uint64_t> hashes;
    const auto tokens = static_cast<std::int32_t>(ids.size());
    for (std::int32_t first = 0; first < tokens; first += chunk) {
        const auto outcome =
            model.run_step(plan_prompt_rows(ids, first, std::min(chunk, tokens - first), model.limits()));
        REQUIRE_FALSE(outcome.failure);
        for (const auto& sample : outcome.samples)
            hashes.push_back(sample.hash.value());
    }
    return hashes;
}

test_engine with_slots(const std::string& model, const std::string& plugin, std::uint64_t slots,
                       const pruning_options& pruning = {}) {
    test_engine::wanted how;
    how.plugin = plugin;
    const auto whole = test_engine::required(golden_folder(model), how); // how large a slab is depends on the plugin
    how.options = options_with_slots(slots, whole.model->slab_bytes());
    how.options.rows_max = block_rows;
    how.options.sequences_max = 4;
    how.options.pruning = pruning;
    return test_engine::required(golden_folder(model), how);
}

} // namespace

TEST_CASE("a long step gives the bits of short ones, with the embedding table in memory or in its file") {
    const auto ids = some_tokens(30);
    for (const std::string model : {"deepseek_v3", "qwen3_moe"}) {
        for (const auto& plugin : runnable_plugins()) {
            CAPTURE(model);
            CAPTURE(plugin);
            test_engine::wanted plain;
            plain.plugin = plugin;
            const auto whole = test_engine::required(golden_folder(model), plain);
            const auto expected = hashes_of(*whole.model, ids, 30);
            const auto& moe = whole.model->shape().moe;
            for (const auto slots : {static_cast<std::uint64_t>(moe.experts), static_cast<std::uint64_t>(moe.top_k)}) {
                CAPTURE(slots);
                const auto small = with_slots(model, plugin, slots);
                REQUIRE(small.model->step_rows_max() >= 30);
                CHECK(small.model->summary().find("embedding rows") != std::string::npos);
                CHECK(hashes_of(*small.model, ids, 30) == expected);
                CHECK(hashes_of(*small.model, ids, 13) == expected);
                CHECK(hashes_of(*small.model, ids, block_rows) == expected);
            }
        }
    }
}

TEST_CASE("a long step reads each expert at most once, whatever fits; short steps read them again") {
    const auto ids = some_tokens(64);
    const auto whole = test_engine::required(golden_folder("qwen3_moe"), {});
    const auto experts = static_cast<std::uint64_t>(whole.model->shape().moe.experts);
    const auto top_k = static_cast<std::uint64_t>(whole.model->shape().moe.top_k);
    for (const auto slots : {experts, experts * 3 / 4, top_k + 1, top_k}) {
        CAPTURE(slots);
        const auto once = with_slots("qwen3_moe", "cpu_reference", slots);
        hashes_of(*once.model, ids, 64);
        const auto counted = once.model->expert_statistics();
        CHECK(counted.demand_loads <= static_cast<std::uint64_t>(once.model->shape().moe_layers()) * experts);
        CHECK(counted.hits == 0);
        const auto again = with_slots("qwen3_moe", "cpu_reference", slots);
        hashes_of(*again.model, ids, block_rows);
        CHECK(again.model->expert_statistics().demand_loads > counted.demand_loads);
    }
}

TEST_CASE("a long step prunes by gate mass as short ones do, and counts each choice once; by residence it does not") {
    const auto ids = some_tokens(30);
    pruning_options pruning;
    pruning.mode = pruning_mode::gate_mass;
    pruning.gate_mass = 0.6;
    for (const std::string model : {"deepseek_v3", "qwen3_moe"})
        for (const auto& plugin : runnable_plugins()) {
            CAPTURE(model);
            CAPTURE(plugin);
            test_engine::wanted plain;
            plain.plugin = plugin;
            plain.options.pruning = pruning;
            const auto whole = test_engine::required(golden_folder(model), plain);
            const auto expected = hashes_of(*whole.model, ids, 30);
            const auto counted = whole.model->expert_statistics().pruning->all;
            REQUIRE(counted.left_out > 0);
            const auto& moe = whole.model->shape().moe;
            for (const auto slots : {moe.experts, moe.top_k + 1, moe.top_k}) {
                CAPTURE(slots);
                const auto small = with_slots(model, plugin, static_cast<std::uint64_t>(slots), pruning);
                REQUIRE(small.model->step_rows_max() >= 30);
                CHECK(hashes_of(*small.model, ids, 30) == expected);
                CHECK(small.model->expert_statistics().pruning->all.routings == counted.routings);
                CHECK(small.model->expert_statistics().pruning->all.left_out == counted.left_out);
            }
        }
    pruning.mode = pruning_mode::cache_aware;
    CHECK(with_slots("qwen3_moe", "cpu_reference", 8, pruning).model->step_rows_max() == block_rows);
}

TEST_CASE("where all experts fit, and with an observer, steps are as long as the arena") {
    test_engine::wanted how;
    how.options.rows_max = block_rows;
    how.options.sequences_max = 4;
    const auto whole = test_engine::required(golden_folder("qwen3_moe"), how);
    CHECK(whole.model->step_rows_max() == block_rows);
    CHECK(whole.model->run_step(plan_prompt_rows(some_tokens(9), 0, 9, whole.model->limits())).failure);
    const auto small = with_slots("qwen3_moe", "cpu_reference", 8);
    CHECK_FALSE(logits_of(*small.model, some_tokens(9), 9));
    CHECK(logits_of(*small.model, some_tokens(8), 8)); // it stays usable
}

TEST_CASE("a token outside the vocabulary fails the step and no other one") {
    const auto small = with_slots("qwen3_moe", "cpu_reference", 8);
    for (const token_id token : {-1, small.model->shape().vocabulary}) {
        const auto outcome = small.model->run_step(plan_prompt_rows({{token}}, 0, 1, small.model->limits()));
        REQUIRE(outcome.failure);
        CHECK(outcome.failure->code == errc::device_error);
    }
    CHECK_FALSE(small.model->run_step(plan_prompt_rows(some_tokens(1), 0, 1, small.model->limits())).failure);
}
