#include "core/execute/route_probe.hpp"

#include "tests/execute/test_engine.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <filesystem>
#include <map>
#include <unistd.h>

using namespace moira;

namespace {

/// What the layers chose, as an observer of the forward pass sees it.
class routing_collector final : public forward_observer {
public:
    void hidden(std::int32_t, std::span<const float>) override {}
    void routing(std::int32_t layer, std::span<const std::int32_t> ids) override {
        chosen[layer].assign(ids.begin(), ids.end());
    }
    void logits(std::int32_t, std::span<const float>) override {}

    std::map<std::int32_t, std::vector<std::int32_t>> chosen;
};

test_engine measuring_engine(const std::string& model, const std::string& plugin) {
    test_engine::wanted how;
    how.plugin = plugin;
    how.options.measure_routes = true;
    return test_engine::required(golden_folder(model), how);
}

std::vector<route_observation> drain(route_board& board) {
    std::vector<route_observation> all;
    while (const auto seen = board.ring().pop())
        all.push_back(*seen);
    return all;
}

} // namespace

TEST_CASE("observations tell what every row of every layer chose, and the control is always right") {
    auto plugins = runnable_plugins();
    plugins.push_back("fake_device");
    for (const auto& plugin : plugins)
        for (const std::string name : {"deepseek_v3", "qwen3_moe"}) {
            INFO(plugin, " on ", name);
            auto tested = measuring_engine(name, plugin);
            auto& model = *tested.model;
            REQUIRE(model.routes());
            const auto& shape = model.shape();
            const auto top_k = static_cast<std::size_t>(shape.moe.top_k);
            routing_collector seen_by_observer;
            const auto ids = some_tokens(9);
            REQUIRE_FALSE(model.run_step(plan_prompt_rows(ids, 0, 9, model.limits()), &seen_by_observer).failure);
            const auto all = drain(*model.routes());
            REQUIRE(all.size() == 9 * static_cast<std::size_t>(shape.moe_layers()));
            std::map<std::int32_t, std::size_t> rows;
            route_calibration known(shape.layers, probe_ranks(shape));
            for (const auto& seen : all) {
                known.observe(seen);
                const auto row = rows[seen.layer]++;
                const auto& chosen = seen_by_observer.chosen.at(seen.layer);
                REQUIRE(seen.top_k == top_k);
                for (std::size_t rank = 0; rank < top_k; ++rank)
                    REQUIRE(seen.chosen[rank] == chosen[row * top_k + rank]);
                CHECK(seen.has(route_source::control));
                CHECK(seen.has(route_source::layer_input));
                CHECK(seen.has(route_source::early) == (seen.layer > 0)); // nothing comes before layer 0
                CHECK(seen.has(route_source::gate2) == (seen.layer > 1));
                CHECK(seen.predicted_ranks() == static_cast<std::size_t>(probe_ranks(shape)));
            }
            CHECK(known.quality(route_source::control).recall_at(top_k) == 1.0);
            const double early = known.quality(route_source::early).recall_at(top_k);
            CHECK(early > 0.0);
            CHECK(early < 1.0); // random weights: no prediction can be perfect
        }
}

TEST_CASE("predicting and prefetching leave every bit as it is") {
    const auto ids = some_tokens(24);
    std::uint64_t loads = 0;
    for (const auto& plugin : runnable_plugins())
        for (const std::string name : {"deepseek_v3", "qwen3_moe"}) {
            INFO(plugin, " on ", name);
            test_engine::wanted plain;
            plain.plugin = plugin;
            auto reference = test_engine::required(golden_folder(name), plain);
            const auto expected = logits_of(*reference.model, ids, 24);
            REQUIRE(expected);
            const auto& shape = reference.model->shape();
            const auto floor = static_cast<std::uint64_t>(shape.moe_layers() * shape.moe.top_k);
            for (const auto slots : {floor / 2, floor, 2 * floor}) {
                CAPTURE(slots);
                auto how = plain;
                how.options = options_with_slots(slots, reference.model->slab_bytes());
                how.options.predict_routes = true;
                auto tested = test_engine::required(golden_folder(name), how);
                prefetch_policy policy;
                policy.mode = prefetch_mode::always;
                tested.model->experts().set_prefetch(policy);
                for (const std::int32_t chunk : {1, 5, 24}) {
                    CAPTURE(chunk);
                    const auto logits = logits_of(*tested.model, ids, chunk);
                    REQUIRE_MESSAGE(logits, logits.error().message);
                    CHECK(same_bits(*logits, *expected));
                }
                const auto counted = tested.model->expert_statistics();
                CHECK(counted.hints.given > 0);
                CHECK(counted.prefetch_loads ==
                      counted.prefetch_useful + counted.prefetch_wasted + counted.prefetch_open);
                loads += counted.prefetch_loads;
            }
        }
    // Whether the loader wakes within a step of microseconds is the scheduler's choice; it does now and then.
    CHECK(loads > 0);
}

TEST_CASE("without a wish for predictions there is no board, and large steps are not predicted") {
    auto plain = test_engine::required(golden_folder("qwen3_moe"), {});
    CHECK(plain.model->routes() == nullptr);
    CHECK_FALSE(plain.model->expert_statistics().prediction);
    auto tested = measuring_engine("qwen3_moe", "cpu_reference");
    const auto many = route_rows_max + 1;
    const auto ids = some_tokens(static_cast<std::size_t>(many));
    REQUIRE_FALSE(tested.model->run_step(plan_prompt_rows(ids, 0, many, tested.model->limits())).failure);
    CHECK(drain(*tested.model->routes()).empty());
    REQUIRE_FALSE(tested.model->run_step(plan_prompt_rows(ids, 0, many - 1, tested.model->limits())).failure);
    CHECK_FALSE(drain(*tested.model->routes()).empty());
}

TEST_CASE("sources beside the one that hints are made of are measured in every sixteenth step only") {
    test_engine::wanted how;
    how.options.predict_routes = true;
    how.options.experts_budget_share = 0.5;
    auto tested = test_engine::required(golden_folder("qwen3_moe"), how);
    auto& model = *tested.model;
    prefetch_policy policy;
    policy.mode = prefetch_mode::always;
    model.experts().set_prefetch(policy);
    const auto ids = some_tokens(1);
    for (std::uint64_t number = 1; number <= route_audit_steps; ++number) {
        auto plan = plan_prompt_rows(ids, 0, 1, model.limits());
        plan.number = number;
        REQUIRE_FALSE(model.run_step(plan).failure);
    }
    std::size_t early = 0, control = 0;
    const auto layers = static_cast<std::size_t>(model.shape().moe_layers());
    for (const auto& seen : drain(*model.routes())) {
        early += seen.has(route_source::early);
        control += seen.has(route_source::control);
    }
    CHECK(early == route_audit_steps * (layers - 1));
    CHECK(control == layers);
}

TEST_CASE("an engine learns the routing history, and predicts by it better than by the previous token") {
    test_engine::wanted how;
    how.options.measure_routes = true;
    how.options.predictor.source = route_source::history;
    auto tested = test_engine::required(golden_folder("deepseek_v3"), how);
    auto& model = *tested.model;
    auto& board = *model.routes();
    CHECK(board.teaches());
    CHECK(board.hints() == route_source::history);
    route_calibration known(board.layers(), board.ranks());
    // A text that repeats itself, so that there is something to learn; token by token, as decoding does.
    const auto once = some_tokens(8);
    std::uint64_t number = 0;
    for (int round = 0; round < 12; ++round)
        for (std::int32_t at = 0; at < 8; ++at) {
            auto plan = plan_prompt_rows(once, at, 1, model.limits());
            plan.number = ++number;
            REQUIRE_FALSE(model.run_step(plan).failure);
            board.learn(known);
        }
    const auto report = board.report();
    CHECK(report.dropped == 0);
    const auto k = static_cast<std::size_t>(report.top_k);
    CHECK(report.of(route_source::control).recall_at(k) == 1.0);
    CHECK(report.of(route_source::history).rows > 0);
    CHECK(report.of(route_source::previous).rows > 0);
    CHECK(report.of(route_source::prompt).rows > 0);
    CHECK(report.of(route_source::history).recall_at(k) > report.of(route_source::previous).recall_at(k));
    CHECK(report.of(route_source::history).recall_at(2 * k) >= report.of(route_source::history).recall_at(k));
}

TEST_CASE("whatever predicts, every bit of the logits stays as it is") {
    const auto ids = some_tokens(24);
    for (const std::string name : {"deepseek_v3", "qwen3_moe"}) {
        auto reference = test_engine::required(golden_folder(name), {});
        const auto expected = logits_of(*reference.model, ids, 24);
        REQUIRE(expected);
        const auto& shape = reference.model->shape();
        const auto floor = static_cast<std::uint64_t>(shape.moe_layers() * shape.moe.top_k);
        for (const auto source :
             {route_source::history, route_source::previous, route_source::prompt, route_source::drafted}) {
            INFO(name, " by ", name_of(source));
            test_engine::wanted how;
            how.options = options_with_slots(floor, reference.model->slab_bytes());
            how.options.predict_routes = true;
            how.options.predictor.source = source;
            auto tested = test_engine::required(golden_folder(name), how);
            prefetch_policy policy;
            policy.mode = prefetch_mode::always;
            tested.model->experts().set_prefetch(policy);
            route_calibration known(shape.layers, probe_ranks(shape));
            for (const std::int32_t chunk : {1, 5, 24}) {
                const auto logits = logits_of(*tested.model, ids, chunk);
                REQUIRE(logits);
                CHECK(same_bits(*logits, *expected));
                tested.model->routes()->learn(known);
            }
            CHECK(tested.model->expert_statistics().hints.given > 0);
        }
    }
}

TEST_CASE("routers hint two layers ahead where the store wants it, and routing so far also the next step's layers") {
    for (const auto source : {route_source::early, route_source::previous}) {
        INFO(name_of(source));
        test_engine::wanted how;
        how.options.predict_routes = true;
        how.options.predictor.source = source;
        how.options.experts_budget_share = 0.5;
        auto tested = test_engine::required(golden_folder("qwen3_moe"), how);
        auto& model = *tested.model;
        const auto ids = some_tokens(8);
        const auto given = [&] { return model.expert_statistics().hints.given; };
        const auto run = [&](std::uint64_t number) {
            auto plan = plan_prompt_rows(ids, static_cast<std::int32_t>(number - 1), 1, model.limits());
            plan.number = number;
            const auto before = given();
            REQUIRE_FALSE(model.run_step(plan).failure);
            return given() - before;
        };
        CHECK(run(1) == 0); // nobody wants hints
        prefetch_policy policy;
        policy.mode = prefetch_mode::always;
        model.experts().set_prefetch(policy);
        REQUIRE(model.experts().hint_visits_wanted() >= 2);
        const auto layers = static_cast<std::uint64_t>(model.shape().moe_layers());
        const auto ranks = static_cast<std::uint64_t>(probe_ranks(model.shape()));
        if (source == route_source::early)
            CHECK(run(2) == ranks * (2 * layers - 3)); // one ahead, and two ahead, to the last layer
        else
            CHECK(run(2) == ranks * (2 * layers + 2)); // behind every layer two, and two before the first
    }
}

TEST_CASE("a predictor that is not there is an error at start") {
    test_engine::wanted how;
    how.options.predict_routes = true;
    how.options.predictor = {route_source::heads, "/nonexistent/heads"};
    CHECK(test_engine::open(golden_folder("qwen3_moe"), how).error().code == errc::not_found);
}

TEST_CASE("heads predict one and two layers ahead, and those of another model's routers are refused") {
    const auto opened = checkpoint::open(golden_folder("deepseek_v3"));
    REQUIRE(opened);
    const auto& shape = opened->shape();
    const auto fingerprint = router_fingerprint(*opened);
    REQUIRE(fingerprint);
    CHECK(fingerprint->size() == 16);
    trained_predictor trained;
    trained.subject = subject_of(shape, "deepseek_v3", *fingerprint);
    const auto layers = shape.moe_layers();
    linear_heads all{layers, shape.moe.experts, shape.hidden, 1,
                     std::vector<linear_head>(static_cast<std::size_t>(heads_ahead_max * layers))};
    for (std::int32_t ahead = 1; ahead <= heads_ahead_max; ++ahead)
        for (std::int32_t from = 0; from + ahead < layers; ++from) {
            auto& head = all.heads[static_cast<std::size_t>((ahead - 1) * layers + from)];
            head.up.assign(static_cast<std::size_t>(shape.moe.experts), 0.0F);
            head.down.assign(static_cast<std::size_t>(shape.hidden), 1.0F);
            head.bias.assign(static_cast<std::size_t>(shape.moe.experts), 0.0F);
            head.bias.back() = 1.0F; // so that the last expert always comes first
        }
    trained.heads = all;
    const auto file = std::filesystem::temp_directory_path() / ("moira_probe_heads_" + std::to_string(::getpid()));
    REQUIRE(write_predictor(file, trained));
    test_engine::wanted how;
    how.options.measure_routes = true;
    how.options.predictor = {route_source::heads, file.string()};
    auto tested = test_engine::required(golden_folder("deepseek_v3"), how);
    const auto ids = some_tokens(3);
    REQUIRE_FALSE(tested.model->run_step(plan_prompt_rows(ids, 0, 3, tested.model->limits())).failure);
    std::size_t near = 0, far = 0;
    for (const auto& seen : drain(*tested.model->routes()))
        for (const auto source : {route_source::heads, route_source::heads2})
            if (seen.has(source)) {
                ++(source == route_source::heads ? near : far);
                CHECK(seen.predicted[static_cast<std::size_t>(source)][0] == shape.moe.experts - 1);
            }
    CHECK(near == 3 * static_cast<std::size_t>(layers - 1));
    CHECK(far == 3 * static_cast<std::size_t>(std::max(layers - 2, 0)));

    trained.subject.fingerprint = "0000000000000000";
    REQUIRE(write_predictor(file, trained));
    CHECK(test_engine::open(golden_folder("deepseek_v3"), how).error().code == errc::invalid_config);
    how.options.predictor.source = route_source::history; // a file of heads in its place
    CHECK(test_engine::open(golden_folder("deepseek_v3"), how).error().code == errc::invalid_config);
    std::filesystem::remove(file);
}
