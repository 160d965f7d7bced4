#include "tools/moira/route_bench_report.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

/// Steps of two rows that read 3 GB at 30 GB/s and miss five experts of 20 MB on a disk of 1 GB/s.
route_bench_row some_row() {
    route_bench_row row;
    row.options.batch = 2;
    row.decode_tok_s = {8, 9, 10};
    row.disk_gb_s = {0.9, 1.0, 1.2};
    row.memory_gb_s = {29, 30, 40};
    row.step_weight_bytes = 3e9;
    row.source_bytes = 20e6;
    row.steps = 10;
    row.replayed_loads = 50;
    row.optimum = optimal_counts{.hits = 60, .loads = 40, .layer_loads = {15, 25}};
    row.after.layers = {{.layer = 1, .hits = 20, .loads = 20}, {.layer = 2, .hits = 30, .loads = 30}};
    row.before.layers = {{.layer = 1, .hits = 5, .loads = 10}};
    row.after.compute_s = 20;
    row.after.step_stall_s = 30;
    row.after.slots = 8;
    row.after.slots_all = 16;
    row.after.slot_bytes = 1 << 20;
    row.after.evictions = 1;
    row.after.slots_to_halve = 12;
    row.before.hits = 100;
    row.after.hits = 150;
    row.after.demand_loads = 50;
    return row;
}

} // namespace

TEST_CASE("bounds add up compute and loads, or take the longer of them") {
    const auto bounds = bounds_of(some_row());
    CHECK(bounds.compute_s == doctest::Approx(0.1));
    CHECK(bounds.load_s == doctest::Approx(0.1));
    CHECK(bounds.demand_only_tok_s == doctest::Approx(10));
    CHECK(bounds.overlap_tok_s == doctest::Approx(20));
    CHECK(bounds_of({}).overlap_tok_s == 0);
}

TEST_CASE("a row shows differences, not totals, and its share of the bounds") {
    const auto shown = route_bench_json({"model", 2, 0}, some_row());
    CHECK(shown["experts"]["hits"] == 50);
    CHECK(shown["experts"]["hit_rate"] == 0.5);
    CHECK(shown["experts"]["demand_loads_without_prefetch"] == 50);
    CHECK(shown["experts"]["demand_loads_optimal"] == 40);
    CHECK(shown["experts"]["regret_share"].get<double>() == doctest::Approx(0.2));
    CHECK(shown["decode_tok_s"] == 9);
    REQUIRE(shown["experts"]["layers"].size() == 2);
    CHECK(shown["experts"]["layers"][0]["hits"] == 15);
    CHECK(shown["experts"]["layers"][0]["regret_loads"] == -5); // the optimum gives that layer less
    CHECK(shown["experts"]["layers"][1]["regret_loads"] == 5);
    CHECK(shown["verdict"] == "60 % of the time waited for experts; 4.0 MiB more budget would halve it");
    CHECK(shown["bounds"]["share_of_demand_only"].get<double>() == doctest::Approx(0.9));
    CHECK(route_bench_table({"model", 2, 0}, {some_row()}, false).find("10.00 (90 %)") != std::string::npos);
}
