#include "tools/moira/run_verdict.hpp"

#include <algorithm>
#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("a verdict speaks of all experts that were asked for, drafts' and modules' too") {
    runtime_statistics statistics;
    statistics.compute_s = 10;
    statistics.stall_s = 7.2;
    statistics.experts.slots = 100;
    statistics.experts.slots_all = 200;
    statistics.experts.slot_bytes = std::uint64_t{16} << 20;
    statistics.experts.evictions = 5;
    statistics.experts.hits = 1;
    statistics.experts.drafted.demand_loads = 2;
    statistics.experts.module.demand_loads = 3;
    CHECK(verdict_facts_of(statistics, 0).demand_loads == 5);
    CHECK_FALSE(verdict_facts_of(statistics, 0).slots_to_halve);
    statistics.experts.slots_to_halve = 190;
    CHECK(verdict(verdict_facts_of(statistics, 0)) ==
          "72 % of the time waited for experts; 1.4 GiB more budget would halve it");
    statistics.experts.regret = expert_regret{.uses = 4000, .loads = 1000, .optimal_loads = 690};
    CHECK(verdict(verdict_facts_of(statistics, 0)).find("would have loaded 31 % less") != std::string::npos);
    statistics.identity.lossy = {"experts.precision=fp8"};
    CHECK(verdict(verdict_facts_of(statistics, 0)).find("lossy: experts.precision=fp8") != std::string::npos);
}

TEST_CASE("the table of layers has a line each, and is empty where nobody asked") {
    expert_store_statistics experts;
    CHECK(layer_table(experts, false).empty());
    experts.layers.resize(2);
    experts.layers[0].layer = 1;
    experts.layers[0].hits = 3;
    experts.layers[0].demand_loads = 1;
    experts.layers[1].layer = 2;
    experts.layers[1].regret_loads = -7;
    const auto text = layer_table(experts, false);
    CHECK(std::count(text.begin(), text.end(), '\n') == 3);
    CHECK(text.find("75.0 %") != std::string::npos);
    CHECK(text.find(" -7") != std::string::npos);
}
