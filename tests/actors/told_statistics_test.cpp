// What a server tells in JSON and in metrics is what a client learns, and nothing that it tells can do harm.
#include "actors/metrics_text.hpp"
#include "actors/request_json.hpp"
#include "actors/told_statistics.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

runtime_statistics some_statistics() {
    runtime_statistics all;
    all.identity.model = "a\"b";
    all.identity.lossy = {"experts.precision=fp8", "prune.gate_mass=0.9"};
    all.uptime_s = 100;
    all.compute_s = 50;
    all.stall_s = 20;
    auto& experts = all.experts;
    experts.hits = 1000;
    experts.demand_loads = 900;
    experts.drafted = {3, 4, 0};
    experts.module = {5, 6, 0};
    experts.evictions = 800;
    experts.slots = 64;
    experts.slots_all = 256;
    experts.slot_bytes = 4096;
    experts.slots_to_halve = 100;
    experts.bypass = true;
    experts.prefetch_loads = 70;
    experts.prefetch_useful = 50;
    experts.prefetch_wasted = 15;
    experts.layers = {{.layer = 1, .hits = 6, .demand_loads = 2, .loads = 2, .hinted_misses = 4, .hinted_found = 1},
                      {.layer = 2}};
    experts.add_regret({.uses = 1900, .loads = 970, .optimal_loads = 600, .layers = {{1, 2, 5}}});
    return all;
}

void check_told(const std::optional<runtime_statistics>& told) {
    const auto all = some_statistics();
    REQUIRE(told);
    CHECK(told->identity.lossy == all.identity.lossy);
    CHECK(told->uptime_s == all.uptime_s);
    CHECK(told->compute_s == all.compute_s);
    CHECK(told->stall_s == all.stall_s);
    const auto& experts = told->experts;
    CHECK(experts.hits == 1000);
    CHECK(experts.demand_loads == 900);
    CHECK(experts.drafted.demand_loads == 4);
    CHECK(experts.module.hits == 5);
    CHECK(experts.evictions == 800);
    CHECK(experts.slots == 64);
    CHECK(experts.slots_all == 256);
    CHECK(experts.slot_bytes == 4096);
    CHECK(experts.slots_to_halve == 100);
    CHECK(experts.bypass);
    CHECK(experts.prefetch_loads == 70);
    CHECK(experts.prefetch_useful == 50);
    CHECK(experts.prefetch_wasted == 15);
    REQUIRE(experts.regret);
    CHECK(experts.regret->loads == 970);
    CHECK(experts.regret->optimal_loads == 600);
}

} // namespace

TEST_CASE("what a server tells of itself is what a client learns, by lines and by metrics") {
    const auto all = some_statistics();
    check_told(told_statistics(nlohmann::json::parse(json_text(statistics_json(all)))));
    check_told(told_statistics(std::string_view(metrics_text(all, {}))));
}

TEST_CASE("statistics and metrics hold for every layer: hit rate, recall, wasted bytes, stall and regret") {
    const auto all = some_statistics();
    const auto shown = statistics_json(all)["experts"];
    CHECK(shown["regret"]["share"].get<double>() == doctest::Approx(370.0 / 970));
    const auto& row = shown["layers"][0];
    CHECK(row["hit_rate"] == 0.75);
    CHECK(row["recall"] == 0.25);
    CHECK(row["prefetch_wasted_bytes"] == 0);
    CHECK(row["stall_s"] == 0);
    CHECK(row["regret_loads"] == -3);
    CHECK(shown["layers"][1]["regret_loads"].is_null());
    const auto metrics = metrics_text(all, {});
    for (const auto* const line :
         {"moira_layer_expert_hit_ratio{layer=\"1\"} 0.75\n", "moira_layer_expert_recall_ratio{layer=\"1\"} 0.25\n",
          "moira_layer_expert_wasted_prefetch_bytes{layer=\"1\"} 0\n",
          "moira_layer_expert_stall_seconds{layer=\"1\"} 0\n", "moira_layer_expert_regret_loads{layer=\"1\"} -3\n"})
        CHECK_MESSAGE(metrics.find(line) != std::string::npos, line);
    CHECK(metrics.find("moira_layer_expert_regret_loads{layer=\"2\"}") == std::string::npos); // nobody knows
}

TEST_CASE("between two answers counters grow; a server that was started anew counts as a whole") {
    const auto before = some_statistics();
    auto after = before;
    after.uptime_s = 130;
    after.compute_s = 60;
    after.experts.demand_loads = 1000;
    after.experts.slots = 32;
    const auto grown = statistics_between(before, after);
    CHECK(grown.compute_s == 10);
    CHECK(grown.stall_s == 0);
    CHECK(grown.experts.demand_loads == 100);
    CHECK(grown.experts.hits == 0);
    CHECK(grown.experts.slots == 32);
    after.uptime_s = 2;
    CHECK(statistics_between(before, after).compute_s == 60);
    after.uptime_s = 131;
    after.experts.demand_loads = 5; // no counter of ours
    CHECK(statistics_between(before, after).experts.demand_loads == 0);
}

TEST_CASE("values that make no sense count as none") {
    for (const auto* const text : {"{}", "[]", "null", R"({"compute_s":"1"})", R"({"experts":{"slots":1}})"})
        CHECK_FALSE(told_statistics(nlohmann::json::parse(text)));
    const auto told = told_statistics(nlohmann::json::parse(
        R"({"compute_s":1e300,"stall_s":-4,"lossy":["a\u001bb",7,"ok"],"experts":{"slots":-1,"slot_bytes":1e30,"hits":1.5,
            "regret":[],"drafted":4}})"));
    REQUIRE(told);
    CHECK(told->compute_s == 0);
    CHECK(told->stall_s == 0);
    CHECK(told->experts.slots == 0);
    CHECK(told->experts.slot_bytes == 0);
    CHECK(told->experts.hits == 1);
    CHECK_FALSE(told->experts.regret);
    CHECK(told->identity.lossy == std::vector<std::string>{"ok"});
    CHECK_FALSE(told_statistics(std::string_view("")));
    CHECK_FALSE(
        told_statistics(std::string_view("moira_compute_seconds\nxmoira_compute_seconds 4\nmoira_compute_seconds x")));
    const auto cut = told_statistics(std::string_view("moira_compute_seconds 4\nmoira_expert_slots nan"));
    REQUIRE(cut);
    CHECK(cut->compute_s == 4);
    CHECK(cut->experts.slots == 0);
}
