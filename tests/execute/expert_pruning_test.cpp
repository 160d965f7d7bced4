#include "core/execute/expert_pruning.hpp"

#include "core/route/route_calibration.hpp"
#include "tests/execute/test_engine.hpp"

#include <algorithm>
#include <doctest/doctest.h>

using namespace moira;

namespace {

test_engine pruned_engine(const std::string& model, const std::string& plugin, const pruning_options& pruning,
                          std::uint64_t slots = 0, std::uint64_t slab_bytes = 0) {
    test_engine::wanted how;
    how.plugin = plugin;
    if (slots > 0)
        how.options = options_with_slots(slots, slab_bytes);
    how.options.pruning = pruning;
    return test_engine::required(golden_folder(model), how);
}

pruning_options by_mass(double mass) {
    pruning_options options;
    options.mode = pruning_mode::gate_mass;
    options.gate_mass = mass;
    return options;
}

pruning_options by_cache(std::int32_t sacred_ranks, double window) {
    pruning_options options;
    options.mode = pruning_mode::cache_aware;
    options.sacred_ranks = sacred_ranks;
    options.window = window;
    return options;
}

std::vector<float> required_logits(engine& model, const std::vector<token_id>& ids, std::int32_t chunk) {
    auto logits = logits_of(model, ids, chunk);
    REQUIRE_MESSAGE(logits, logits.error().message);
    return std::move(*logits);
}

std::uint64_t acquired(const engine& model) {
    const auto counted = model.expert_statistics();
    return counted.hits + counted.demand_loads;
}

const std::vector<std::string> models{"deepseek_v3", "qwen3_moe", "olmoe"};

} // namespace

TEST_CASE("pruning by gate mass has bits of its own, the same in any steps and with any budget") {
    const auto ids = some_tokens(24);
    auto plugins = runnable_plugins();
    plugins.push_back("fake_device");
    for (const auto& plugin : plugins)
        for (const auto& name : models) {
            INFO(plugin, " on ", name);
            auto exact = pruned_engine(name, plugin, {});
            auto first = pruned_engine(name, plugin, by_mass(0.6));
            const auto expected = required_logits(*first.model, ids, 24);
            CHECK_FALSE(same_bits(expected, required_logits(*exact.model, ids, 24)));
            const auto& shape = exact.model->shape();
            const auto top_k = static_cast<std::uint64_t>(shape.moe.top_k);
            for (const auto slots : {top_k * static_cast<std::uint64_t>(shape.moe_layers()), top_k})
                for (const std::int32_t chunk : {1, 7, 24}) {
                    CAPTURE(slots);
                    CAPTURE(chunk);
                    auto tested = pruned_engine(name, plugin, by_mass(0.6), slots, exact.model->slab_bytes());
                    CHECK(same_bits(required_logits(*tested.model, ids, chunk), expected));
                    const auto counted = tested.model->expert_statistics().pruning;
                    REQUIRE(counted);
                    CHECK(counted->all.left_out == first.model->expert_statistics().pruning->all.left_out);
                }
        }
}

TEST_CASE("what is left out is not acquired, and the counters say how much that was") {
    const auto ids = some_tokens(1);
    auto exact = pruned_engine("qwen3_moe", "cpu_reference", {});
    auto tested = pruned_engine("qwen3_moe", "cpu_reference", by_mass(0.6));
    required_logits(*exact.model, ids, 1);
    required_logits(*tested.model, ids, 1);
    const auto& shape = tested.model->shape();
    const auto counted = tested.model->expert_statistics().pruning;
    REQUIRE(counted);
    CHECK_FALSE(exact.model->expert_statistics().pruning);
    CHECK(counted->all.routings == static_cast<std::uint64_t>(shape.moe_layers() * shape.moe.top_k));
    CHECK(counted->all.routings == acquired(*exact.model));
    CHECK(counted->all.left_out > 0);
    CHECK(counted->all.left_out == acquired(*exact.model) - acquired(*tested.model));
    CHECK(counted->all.replaced == 0);
    CHECK(counted->layers.size() == static_cast<std::size_t>(shape.layers));
    std::uint64_t by_layer = 0;
    for (const auto& layer : counted->layers)
        by_layer += layer.left_out;
    CHECK(by_layer == counted->all.left_out);
}

TEST_CASE("pruning is named, and no hash can be compared with an exact one or with another strength") {
    auto exact = pruned_engine("qwen3_moe", "cpu_reference", {});
    auto mild = pruned_engine("qwen3_moe", "cpu_reference", by_mass(0.9));
    auto strong = pruned_engine("qwen3_moe", "cpu_reference", by_mass(0.5));
    auto cached = pruned_engine("qwen3_moe", "cpu_reference", by_cache(1, 0.25));
    CHECK(exact.model->lossy().empty());
    CHECK(mild.model->lossy() == std::vector<std::string>{"prune.gate_mass=0.9"});
    CHECK(cached.model->lossy() ==
          std::vector<std::string>{"prune.mode=cache_aware prune.sacred_ranks=1 prune.window=0.25"});
    CHECK(mild.model->numerics_id() == exact.model->numerics_id() + "/prune-mass-0.9");
    CHECK(strong.model->numerics_id() == exact.model->numerics_id() + "/prune-mass-0.5");
    CHECK(cached.model->numerics_id() == exact.model->numerics_id() + "/prune-cache-1-0.25");
    CHECK(mild.model->notices().size() == exact.model->notices().size() + 1);
}

TEST_CASE("the whole mass keeps every expert that weighs anything, and with it the exact bits") {
    const auto ids = some_tokens(12);
    for (const auto& name : models) {
        INFO(name);
        auto exact = pruned_engine(name, "cpu_reference", {});
        auto tested = pruned_engine(name, "cpu_reference", by_mass(1.0));
        CHECK(same_bits(required_logits(*tested.model, ids, 12), required_logits(*exact.model, ids, 12)));
        CHECK(tested.model->expert_statistics().pruning->all.left_out == 0);
    }
}

TEST_CASE("cache-aware routing replaces nothing while everything is in memory or the window is closed") {
    const auto ids = some_tokens(16);
    auto plugins = runnable_plugins();
    plugins.push_back("fake_device");
    for (const auto& plugin : plugins)
        for (const auto& name : models) {
            INFO(plugin, " on ", name);
            auto exact = pruned_engine(name, plugin, {});
            const auto expected = required_logits(*exact.model, ids, 16);
            const auto& shape = exact.model->shape();
            auto warm = pruned_engine(name, plugin, by_cache(1, 0.9));
            for (std::int32_t layer = 0; layer < shape.layers; ++layer)
                for (std::int32_t expert = 0;
                     shape.layer_is_moe[static_cast<std::size_t>(layer)] && expert < shape.moe.experts; ++expert)
                    REQUIRE(warm.model->experts().acquire(layer, std::vector{expert})->wait_some());
            CHECK(same_bits(required_logits(*warm.model, ids, 16), expected));
            CHECK(warm.model->expert_statistics().pruning->all.replaced == 0);
            if (shape.moe.choice_bias)
                continue; // an expert behind may have a better score, and then stands in with any window
            auto closed = pruned_engine(name, plugin, by_cache(1, 0.0), static_cast<std::uint64_t>(shape.moe.top_k),
                                        exact.model->slab_bytes());
            CHECK(same_bits(required_logits(*closed.model, ids, 16), expected));
            CHECK(closed.model->expert_statistics().pruning->all.replaced == 0);
        }
}

TEST_CASE("cache-aware routing saves loads when experts are scarce, and says how many it replaced") {
    const auto ids = some_tokens(40);
    for (const auto& name : models) {
        INFO(name);
        auto exact = pruned_engine(name, "cpu_reference", {});
        const auto& shape = exact.model->shape();
        const auto slots = static_cast<std::uint64_t>(2 * shape.moe_layers() * shape.moe.top_k);
        auto plain = pruned_engine(name, "cpu_reference", {}, slots, exact.model->slab_bytes());
        auto tested = pruned_engine(name, "cpu_reference", by_cache(1, 0.9), slots, exact.model->slab_bytes());
        required_logits(*plain.model, ids, 1);
        required_logits(*tested.model, ids, 1);
        const auto counted = tested.model->expert_statistics();
        REQUIRE(counted.pruning);
        CHECK(counted.pruning->all.replaced > 0);
        CHECK(counted.pruning->all.left_out == 0);
        CHECK(counted.demand_loads < plain.model->expert_statistics().demand_loads);
    }
}

TEST_CASE("options that mean nothing are refused") {
    const auto code = [](const pruning_options& options) {
        test_engine::wanted how;
        how.options.pruning = options;
        auto opened = test_engine::open(golden_folder("qwen3_moe"), how);
        REQUIRE_FALSE(opened);
        return opened.error().code;
    };
    for (const double mass : {0.0, -0.5, 1.5})
        CHECK(code(by_mass(mass)) == errc::invalid_argument);
    CHECK(code(by_cache(0, 0.5)) == errc::invalid_argument);
    CHECK(code(by_cache(1, 1.5)) == errc::invalid_argument);
    CHECK(code(by_cache(8, 0.5)) == errc::invalid_config); // all of them sacred
}

TEST_CASE("predictors are judged by the experts that run: the control finds them all, and low ranks are believed less") {
    test_engine::wanted how;
    how.options.measure_routes = true;
    how.options.pruning = by_mass(0.6);
    auto tested = test_engine::required(golden_folder("deepseek_v3"), how);
    auto& model = *tested.model;
    const auto& shape = model.shape();
    const auto ids = some_tokens(20);
    REQUIRE_FALSE(model.run_step(plan_prompt_rows(ids, 0, 20, model.limits())).failure);
    route_calibration known(shape.layers, model.routes()->ranks());
    std::uint64_t left_out = 0;
    while (const auto seen = model.routes()->ring().pop()) {
        known.observe(*seen);
        left_out += seen->left_out;
    }
    CHECK(left_out > 0);
    CHECK(left_out == model.expert_statistics().pruning->all.left_out);
    const auto& control = known.quality(route_source::control);
    const auto top_k = static_cast<std::size_t>(shape.moe.top_k);
    CHECK(control.recall_at(top_k) == 1.0);
    CHECK(control.matches[0] == control.rows);
    CHECK(control.matches[top_k - 1] < control.rows);
}
