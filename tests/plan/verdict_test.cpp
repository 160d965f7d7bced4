#include "core/plan/verdict.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

bool holds(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// Ten seconds of steps with half of the experts in memory.
verdict_facts half_resident(double stall_s) {
    verdict_facts facts;
    facts.tok_s = 12;
    facts.compute_s = 10;
    facts.stall_s = stall_s;
    facts.slots = 100;
    facts.slots_all = 200;
    facts.slot_bytes = std::uint64_t{16} << 20;
    facts.hits = 5000;
    facts.demand_loads = 5000;
    facts.evictions = 4900;
    return facts;
}

} // namespace

TEST_CASE("a run with everything in memory says so shortly") {
    auto facts = half_resident(0);
    facts.slots = 200;
    facts.demand_loads = facts.evictions = 0;
    CHECK(verdict(facts) == "all experts fit in memory; 12 tokens/s");
    facts.bandwidth_share = 0.83;
    CHECK(verdict(facts) == "all experts fit in memory; 12 tokens/s, 83 % of memory bandwidth");
}

TEST_CASE("a stalled run says how much, and which budget would halve it") {
    auto facts = half_resident(7.2);
    facts.slots_to_halve = 190;
    CHECK(verdict(facts) == "72 % of the time waited for experts; 1.4 GiB more budget would halve it");
    facts.slots_to_halve.reset();
    CHECK(holds(verdict(facts), "unknown"));
}

TEST_CASE("experts that are read for the first time are not the budget's fault") {
    auto facts = half_resident(6);
    facts.evictions = 0;
    CHECK(holds(verdict(facts), "for the first time"));
    facts.slots = facts.slots_all;
    CHECK(holds(verdict(facts), "every expert was read once"));
}

TEST_CASE("a budget below one token's experts is named") {
    auto facts = half_resident(9);
    facts.bypass = true;
    facts.slots_to_halve = 150;
    CHECK(holds(verdict(facts), "90 % of the time waited"));
    CHECK(holds(verdict(facts), "below one token's experts"));
}

TEST_CASE("reading ahead in vain is named, reading ahead well is not") {
    auto facts = half_resident(3);
    facts.prefetch_loads = 100;
    facts.prefetch_wasted = 70;
    facts.prefetch_useful = 30;
    CHECK(holds(verdict(facts), "70 % of what was read ahead was not used"));
    facts.prefetch_wasted = 10;
    CHECK_FALSE(holds(verdict(facts), "read ahead"));
    facts.prefetch_loads = facts.prefetch_wasted = 5; // too few to judge
    CHECK_FALSE(holds(verdict(facts), "read ahead"));
}

TEST_CASE("lossy levers are named whatever else there is to say") {
    for (const double stall_s : {0.0, 7.0}) {
        auto facts = half_resident(stall_s);
        facts.lossy = {"prune.gate_mass=0.9", "experts.precision=fp8"};
        CHECK(holds(verdict(facts), "lossy: prune.gate_mass=0.9, experts.precision=fp8"));
    }
}

TEST_CASE("a run that computed shows its speed; one that did nothing says that") {
    CHECK(holds(verdict(half_resident(0.2)), "computing took the time; 2 % of it waited"));
    CHECK(verdict({}) == "nothing was computed");
    auto dense = half_resident(0);
    dense.hits = dense.demand_loads = dense.evictions = 0;
    CHECK(holds(verdict(dense), "no routed expert"));
}

TEST_CASE("what a perfect cache would have saved is said where it is much and was seen often") {
    auto facts = half_resident(7.2);
    facts.slots_to_halve = 190;
    facts.regret_share = 0.31;
    facts.regret_loads = 5000;
    CHECK(verdict(facts) ==
          "72 % of the time waited for experts; 1.4 GiB more budget would halve it; a perfect cache of "
          "this size would have loaded 31 % less");
    facts.regret_share = 0.04;
    CHECK_FALSE(holds(verdict(facts), "perfect"));
    facts.regret_share = 0.31;
    facts.regret_loads = 100;
    CHECK_FALSE(holds(verdict(facts), "perfect"));
}

TEST_CASE("a stall that is longer than the steps counts as all of them") {
    CHECK(holds(verdict(half_resident(20)), "100 %"));
}
