#include "core/plan/speed_estimate.hpp"
#include "tests/plan/planned_model.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

constexpr double mib = 1 << 20, ms = 1e-3;

/// An expert is computed in 1 ms and read in `read_ms`.
machine_speed round_machine(double read_ms) {
    machine_speed machine;
    machine.memory_gb_s = mib / 1e6 / bandwidth_share;
    machine.disk_gb_s = mib / 1e6 / read_ms;
    return machine;
}

} // namespace

TEST_CASE("the terms add up to the step") {
    for (const double hits : {0.0, 0.3, 0.9, 1.0}) {
        const auto speed = estimate_speed(round_model(), {10, 1}, hits, 100);
        REQUIRE(speed);
        CHECK(speed->dense_s + speed->kv_s + speed->experts_s + speed->overhead_s + speed->loaders_s ==
              doctest::Approx(speed->compute_s));
        CHECK(speed->compute_s + speed->stall_s + speed->between_s == doctest::Approx(speed->step_s));
        CHECK(speed->tok_s == doctest::Approx(1 / speed->step_s));
        CHECK(speed->tok_s <= speed->tok_s_overlapped);
    }
}

TEST_CASE("with every expert in memory nobody needs to know the disk") {
    const auto speed = estimate_speed(round_model(), {10, std::nullopt}, 1.0, 1);
    REQUIRE(speed);
    CHECK(speed->reads_s == 0);
    CHECK(speed->stall_s == 0);
    CHECK(speed->disk_bytes_per_token == 0);
    CHECK_FALSE(estimate_speed(round_model(), {10, std::nullopt}, 0.99, 1));
}

TEST_CASE("a described machine's figures are arithmetic that a hand can do") {
    // 8 MiB dense, 1,024 tokens of 1 KiB, 8 experts of 1 MiB, 4 layers.
    const auto resident = estimate_speed(round_model(), round_machine(10), 1.0, 1024);
    REQUIRE(resident);
    CHECK(resident->dense_s == doctest::Approx(8 * ms));
    CHECK(resident->kv_s == doctest::Approx(1 * ms));
    CHECK(resident->experts_s == doctest::Approx(8 * ms));
    CHECK(resident->step_s == doctest::Approx(17 * ms + 4 * layer_overhead_s + between_steps_s));

    // Nothing hits: 4 layers read two experts at once, 20 ms each layer, in which nothing can be computed.
    const auto cold = estimate_speed(round_model(), round_machine(10), 0.0, 1024);
    REQUIRE(cold);
    CHECK(cold->disk_bytes_per_token == 8 * round_model().disk_bytes);
    CHECK(cold->reads_s == doctest::Approx(80 * ms));
    CHECK(cold->stall_s == doctest::Approx(80 * ms));
    CHECK(cold->compute_s == doctest::Approx(resident->compute_s));

    // Half hits. A layer misses none in 1/4 of cases, one in 1/2 (10 ms, 1 ms of it hidden behind the resident one),
    // both in 1/4 (20 ms).
    const auto half = estimate_speed(round_model(), round_machine(10), 0.5, 1024);
    REQUIRE(half);
    CHECK(half->reads_s == doctest::Approx(40 * ms));
    CHECK(half->stall_s == doctest::Approx(4 * (0.5 * 9 + 0.25 * 20) * ms));
    CHECK(half->tok_s_overlapped == doctest::Approx(1 / (40 * ms + between_steps_s)));
}

TEST_CASE("packing makes the last expert late, and slows compute threads that share their processors") {
    auto machine = round_machine(10);
    machine.read_cpu_s = 0.5 * ms;
    machine.pack_s = 3 * ms;
    const auto own = estimate_speed(round_model(), machine, 0.0, 1024);
    machine.sharing_threads = 2;
    const auto shared = estimate_speed(round_model(), machine, 0.0, 1024);
    REQUIRE(own);
    REQUIRE(shared);
    CHECK(own->stall_s == doctest::Approx(4 * (20 + 3) * ms));
    CHECK(own->loaders_s == 0);
    // 8 loads of 3.5 ms on two processors are 14 ms each, of which the part beside compute counts.
    CHECK(shared->loaders_s == doctest::Approx(14 * ms * own->compute_s / (own->compute_s + own->stall_s)));
    CHECK(shared->stall_s == doctest::Approx(own->stall_s));
    // Packing that takes longer than all loaders together read is what loads wait for.
    machine.pack_s = 80 * ms;
    machine.loader_threads = 3;
    CHECK(estimate_speed(round_model(), machine, 0.0, 1024)->stall_s == doctest::Approx(4 * (2 * 20 + 80) * ms));
}

TEST_CASE("a layer's stall is its reads without what is computed beside them") {
    // 8 experts of 1, reads of 10, nothing to pack, 4 on their way.
    CHECK(layer_stall_s(8, 0, 1, 10, 0, 4) == 0);
    CHECK(layer_stall_s(8, 1, 1, 10, 0, 4) == doctest::Approx(10 - 7));
    CHECK(layer_stall_s(8, 4, 1, 10, 0, 4) == doctest::Approx(40 - 4));
    CHECK(layer_stall_s(8, 8, 1, 10, 0, 4) == doctest::Approx(80 - 4)); // 4 arrived before and were computed
    // A quick disk: only the first bunch is waited for.
    CHECK(layer_stall_s(8, 8, 10, 1, 0, 4) == doctest::Approx(4));
    CHECK(layer_stall_s(8, 4, 10, 1, 0, 4) == 0);
}

TEST_CASE("a faster disk, faster memory and more hits are never slower") {
    const auto at = [](double memory, double disk, double hits) {
        return estimate_speed(round_model(), {memory, disk}, hits, 1)->tok_s;
    };
    CHECK(at(10, 2, 0.5) > at(10, 1, 0.5));
    CHECK(at(20, 1, 0.5) > at(10, 1, 0.5));
    CHECK(at(10, 1, 0.6) > at(10, 1, 0.5));
    CHECK(at(10, 1, 1.0) > at(10, 1, 0.99));
}
